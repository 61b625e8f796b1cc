// A mask in figures: the lines above its picture, its memory, and all of it as JSON.
//
//   std::cout << mask_summary(view) << memory_text(view);
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

// Two lines: the rule; then shape, block size, sparsity, pairs, runs and bit tiles.
std::string mask_summary(const MaskView& view);

// What the forms of a mask take in memory, in bytes, for one head that all share.
struct MaskMemory {
  int64_t dense_bool = 0;
  int64_t bias_bfloat16 = 0;
  int64_t bias_float32 = 0;
  int64_t block_mask = 0;  // its arrays as they are, without the transposed lists of a backward
};
MaskMemory mask_memory(const BlockMask& mask);

// mask_memory for people: a title, and a line for each form, such as "  dense bool        4.0 MiB".
std::string memory_text(const MaskView& view);

struct ReportOptions {
  bool estimate = false;  // adds what the forms of the mask take in memory
};

// One object on one line:
//
//   rule, batch, tokens (of a row), queries, keys ([begin, end) of the row), block ([q, kv])
//   sparsity   percent of pairs that lie in absent tiles
//   num_pairs, num_runs, num_tiles (different bit tiles that are stored)
//   rows       up to 4096 tokens: for each query the keys that it sees, as [[begin, end], ...]
//   dense      up to 64 tokens: for each query a string of 0 and 1
//   estimate   with options.estimate: the members of MaskMemory
//
// When the layout has several rows, rows and dense are lists with one such list for each row.
std::string mask_json(const MaskView& view, const ReportOptions& options);

}  // namespace tessera
