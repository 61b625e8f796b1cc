// A mask in figures: the lines above its picture, its memory, and all of it as JSON.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

// Two lines: the rule; shape, block size, sparsity, pairs, runs and tiles.
std::string mask_summary(const MaskView& view);

// What the forms of a mask take in memory, in bytes, of one head that all share.
struct MaskMemory {
  int64_t dense_bool = 0;
  int64_t bias_bfloat16 = 0;
  int64_t bias_float32 = 0;
  int64_t block_mask = 0;  // its arrays as they are, without the transposed lists of a backward
};
MaskMemory mask_memory(const BlockMask& mask);

// The same for people, a line each: "dense bool   16.0 GiB".
std::string memory_text(const MaskView& view);

struct ReportOptions {
  bool estimate = false;
};

// One object on one line:
//   rule, batch, tokens, queries, keys ([begin, end) of the row), block ([q, kv])
//   sparsity   percent of pairs that lie in absent tiles
//   num_pairs, num_runs, num_tiles (different bit tiles that are stored)
//   rows       up to 4096 tokens: for each query the keys that it sees, as [[begin, end], ...]
//   dense      up to 64 tokens: for each query a string of 0 and 1
//   estimate   with options.estimate: the members of MaskMemory
// rows and dense are a list of that for each row when the layout has several.
std::string mask_json(const MaskView& view, const ReportOptions& options);

}  // namespace tessera
