// Masks and ids as strings of digits, the notation of the Hugging Face test tables, and inputs of
// the mask builders from such strings. Internal to tests/attention/interchange/.
//
//   rows(causal_mask({}, tokens(3)));                          // "100 110 111"
//   rows(sliding_window_causal_mask(sliding(2), tokens(3)));   // "100 110 011"
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <sstream>
#include <string>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "attention/interchange/hf_masks.h"

namespace tessera::testing {

// Splits at spaces: "110 011" is {"110", "011"}.
inline std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

// The pairs of one batch row of a mask, one word of keys per query: "100 110 111".
inline std::string rows(const BlockMask& mask, int64_t b = 0) {
  std::string text;
  for (int64_t q = 0; q < mask.shape().q_len; ++q) {
    if (q > 0) text += ' ';
    for (int64_t kv = 0; kv < mask.shape().kv_len; ++kv) {
      text += mask.allows(b, 0, q, kv) ? '1' : '0';
    }
  }
  return text;
}

// Rows of digits as an int64 tensor, "." for -1: "012 0.." is [[0, 1, 2], [0, -1, -1]].
inline at::Tensor digits(const std::string& text) {
  const std::vector<std::string> lines = words(text);
  const auto width = static_cast<int64_t>(lines.front().size());
  at::Tensor tensor = at::empty({static_cast<int64_t>(lines.size()), width}, at::kLong);
  int64_t* out = tensor.mutable_data_ptr<int64_t>();
  for (const std::string& line : lines) {
    for (const char digit : line) *out++ = digit == '.' ? -1 : digit - '0';
  }
  return tensor;
}

// Rows of 0 and 1 as a bool tensor.
inline at::Tensor bits(const std::string& text) { return digits(text).to(at::kBool); }

inline MaskConfig sliding(int64_t window) { return {.sliding_window = window}; }
inline MaskConfig chunks(int64_t size) { return {.attention_chunk_size = size}; }

// Inputs of plain rows, of padded rows (1 is a token), of packed rows (digits are position ids), of
// one row with blocks (digits are block ids), and of an update of a cache.
inline MaskInputs tokens(int64_t q_length, int64_t batch = 1) {
  return {.geometry = {.batch = batch, .q_length = q_length}};
}

inline MaskInputs padded(const std::string& valid) {
  MaskInputs inputs{.valid_BT = bits(valid)};
  inputs.geometry = {.batch = inputs.valid_BT.size(0), .q_length = inputs.valid_BT.size(1)};
  return inputs;
}

inline MaskInputs packed(const std::string& positions) {
  MaskInputs inputs{.document_ids_BT = document_ids_from_positions(digits(positions))};
  const at::Tensor& ids_BT = inputs.document_ids_BT;
  inputs.geometry = {.batch = ids_BT.size(0), .q_length = ids_BT.size(1)};
  return inputs;
}

inline MaskInputs with_blocks(const std::string& ids) {
  MaskInputs inputs{.block_sequence_ids_BT = digits(ids)};
  inputs.geometry.q_length = inputs.block_sequence_ids_BT.size(1);
  return inputs;
}

inline MaskInputs cached(const CacheState& cache, std::optional<int64_t> window, int64_t q_length) {
  const CacheSizes sizes = cache_sizes(cache, window, q_length);
  return {.geometry = {.q_length = q_length,
                       .kv_length = sizes.kv_length,
                       .q_offset = sizes.q_offset,
                       .kv_offset = sizes.kv_offset}};
}

}  // namespace tessera::testing
