// Varlen: packed documents as cumulative lengths, for flash attention's variable-length kernels.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// Rows of the batch laid end to end; sequence i is the tokens from cu_seqlens[i] to
// cu_seqlens[i + 1] (as many queries as keys). Within it a query sees the tokens of `window` around
// it: {nothing, 0} is causal, {nothing, nothing} is full, {W - 1, 0} is Hugging Face's
// sliding_window = W.
struct Varlen {
  std::vector<int32_t> cu_seqlens{};
  int32_t max_seqlen = 0;
  Window window{};
  bool operator==(const Varlen&) const = default;
};

// The mask as windowed documents, or nothing when it is not exactly that: several heads, different
// numbers of queries and keys, rows without a key, holes, or different windows. batch: rows of the
// attention inputs, which a mask of batch 1 repeats. O(tokens).
std::optional<Varlen> to_varlen(const BlockMask& mask, int64_t batch);

}  // namespace tessera
