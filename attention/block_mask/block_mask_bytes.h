// Block masks as bytes, to send to another rank or keep in a file.
//
// The format is little-endian and has no padding:
//
//   8 bytes            "TSMASK1\n"; "TSOWN01\n" for a mask with MaskSequence::kOwn
//   9 x int64          batch, heads, q_len, kv_len, block.q, block.kv,
//                      and the numbers of row offsets, runs and tile words
//   int32 each         row_offsets
//   3 x int32 each     runs: begin, end, tile
//   uint64 each        tile_bits
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// Throws c10::Error for a mask that carries a plan.
std::string to_bytes(const BlockMask& mask);

// The mask that to_bytes wrote; the two are equal. Throws c10::Error that names what is wrong: no
// mask at all, a truncated or too long text, or the first invariant of BlockMask that does not hold
// (unsorted or overlapping runs, ...).
BlockMask block_mask_from_bytes(std::string_view bytes);

}  // namespace tessera
