// Packed documents and square masks, for the tests of context parallelism.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <random>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera::testing {

// The document ids of one row whose documents have these lengths: int64 [T], T their sum.
inline at::Tensor ids_of(const std::vector<int64_t>& lengths) {
  int64_t num_tokens = 0;
  for (const int64_t length : lengths) num_tokens += length;
  at::Tensor ids_T = at::empty({num_tokens}, at::kLong);
  int64_t at = 0;
  for (size_t id = 0; id < lengths.size(); ++id) {
    ids_T.narrow(0, at, lengths[id]).fill_(static_cast<int64_t>(id));
    at += lengths[id];
  }
  return ids_T;
}

// The lengths of a row's documents as a packer makes them, num_tokens in all: many short ones, a
// few long ones.
inline std::vector<int64_t> packed_lengths(uint32_t seed, int64_t num_tokens) {
  std::mt19937 random(seed);
  std::lognormal_distribution<double> length(5.5, 1.4);
  std::vector<int64_t> lengths;
  for (int64_t left = num_tokens; left > 0;) {
    lengths.push_back(std::clamp<int64_t>(static_cast<int64_t>(length(random)), 1, left));
    left -= lengths.back();
  }
  return lengths;
}

// The mask of a rule over seq_len queries and keys, in tiles of block x block.
inline BlockMask square_mask(const MaskMod& rule, int64_t seq_len, int64_t block,
                             int64_t batch = 1) {
  return create_block_mask(
      rule, {.batch = batch, .q_len = seq_len, .kv_len = seq_len, .block = {block, block}});
}

}  // namespace tessera::testing
