// Block masks as bytes, to send to another rank or keep in a file.
//
// Little-endian: "TSMASK1\n" (of a mask over a sequence of a model's own: "TSOWN01\n"), then as
// int64 batch, heads, q_len, kv_len, block.q, block.kv and the numbers of rows, runs and tile
// words, then row_offsets (int32), runs (3 x int32 each) and tile_bits (uint64).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "attention/block_mask/block_mask.h"

namespace tessera {

std::string to_bytes(const BlockMask& mask);

// Throws c10::Error that names what is wrong: no mask at all, a truncated or too long text, or the
// first invariant of BlockMask that does not hold (unsorted or overlapping runs, ...).
BlockMask block_mask_from_bytes(std::string_view bytes);

}  // namespace tessera
