// Varlen: packed documents as cumulative lengths, for flash attention's variable-length kernels.
//
//   std::optional<Varlen> varlen = to_varlen(mask, q_BTHD.size(0));
//   if (varlen) {
//     // sequence i: tokens varlen->cu_seqlens[i] to varlen->cu_seqlens[i + 1] of the [B * T] rows
//   }
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// The rows of the batch are laid end to end. Sequence i is the tokens from cu_seqlens[i] to
// cu_seqlens[i + 1], as many queries as keys. Within its sequence a query sees the tokens of
// `window` around it: {nothing, 0} is causal, {nothing, nothing} is full, {W - 1, 0} is Hugging
// Face's sliding_window = W.
struct Varlen {
  std::vector<int32_t> cu_seqlens{};  // first 0, last the number of all tokens
  int32_t max_seqlen = 0;             // tokens of the longest sequence
  Window window{};
  bool operator==(const Varlen&) const = default;
};

// The mask as windowed documents, or nothing when it is not exactly that: several heads, different
// numbers of queries and keys, rows without a key, holes, or different windows. batch: the rows of
// the attention inputs, for each of which a mask of batch 1 stands. Takes O(tokens). Throws
// c10::Error when `batch` does not fit the mask's, or for more than 2^31 - 1 tokens.
std::optional<Varlen> to_varlen(const BlockMask& mask, int64_t batch);

}  // namespace tessera
