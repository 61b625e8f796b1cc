// The gradient of q: each unit of work of the backward pass sums over its keys in a buffer of its
// thread, and hands over what it has. With several chunks of keys (see BackwardPlan) there is a
// result for each, which are added in order at the end.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "attention/backends/flex/flex_inputs.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

// Tokens of heads [h, h + num_heads) of a batch row.
struct HeadTokens {
  int64_t b = 0;
  int64_t h = 0;
  int64_t num_heads = 0;
  TokenRange tokens{0, 0};
};

// Sums of one unit at a time; a thread's own.
class QuerySums {
 public:
  explicit QuerySums(int64_t dim) : width_(padded(dim)) {}

  // Zero for these queries, in place of the sums before.
  void begin(const HeadTokens& queries);

  // [rows from q on, padded(D)]. Up to kPad rows beyond those of `begin` may be written.
  float* at(int64_t h, int64_t q) { return data_ + index(h, q); }
  const float* at(int64_t h, int64_t q) const { return data_ + index(h, q); }

  const HeadTokens& queries() const { return queries_; }
  int64_t width() const { return width_; }

 private:
  int64_t rows_per_head() const { return queries_.tokens.size() + kPad; }
  int64_t index(int64_t h, int64_t q) const {
    return ((h - queries_.h) * rows_per_head() + q - queries_.tokens.begin) * width_;
  }

  int64_t width_;
  HeadTokens queries_{};
  at::Tensor owner_;
  float* data_ = nullptr;
};

class QueryGradient {
 public:
  // dims: of q, [B, T, H, D].
  QueryGradient(at::IntArrayRef dims, int64_t num_chunks);

  // scale * sums, of one chunk. Units of the same chunk have no queries in common.
  void store(int64_t chunk, const QuerySums& sums, double scale, const TileKernels& kernels);

  // The sum over chunks, [B, T, H, D] in float32, once all units are done.
  at::Tensor sum();

 private:
  struct Chunk {
    at::Tensor sums_BTHD{};             // of the queries of units
    std::vector<TokenRange> tokens_BH;  // which those are
  };
  void add_head(int64_t b, int64_t h);

  std::vector<Chunk> chunks_;
};

}  // namespace tessera::flex
