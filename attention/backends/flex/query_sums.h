// The gradient of q in the backward pass. Each unit of work sums over its keys in a buffer of its
// thread (QuerySums) and stores the sums in the result of its chunk (QueryGradient); the results of
// several chunks (see BackwardPlan) are added in order at the end.
// Internal to attention/backends/flex/.
//
//   sums.begin(queries);                           // in each unit of work
//   products.add_d_queries(piece, d_s, sums.at(h, q));
//   gradient.store(unit.chunk, sums, scale, kernels);
//   at::Tensor d_q_BTHD = gradient.sum();          // once all units are done
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "attention/backends/flex/flex_inputs.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

// Tokens of heads [h, h + num_heads) of batch row b.
struct HeadTokens {
  int64_t b = 0;
  int64_t h = 0;
  int64_t num_heads = 0;
  TokenRange tokens{0, 0};
};

// The sums of one unit at a time. Each thread has its own.
class QuerySums {
 public:
  explicit QuerySums(int64_t dim) : width_(padded(dim)) {}

  // Sets the sums to zero for these queries, in place of those of the unit before.
  void begin(const HeadTokens& queries);

  // The sums of head h from query q on, [rows, padded(D)], float32. Up to kPad rows beyond those of
  // `begin` may be written.
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

// The gradient of q, one result per chunk. Units of one chunk may store from several threads.
class QueryGradient {
 public:
  // dims: the sizes of q, [B, T, H, D].
  QueryGradient(at::IntArrayRef dims, int64_t num_chunks);

  // Stores scale * sums as a share of one chunk's result. Units of the same chunk must have no
  // (batch row, head) in common.
  void store(int64_t chunk, const QuerySums& sums, double scale, const TileKernels& kernels);

  // The sum over chunks, [B, T, H, D] in float32. To be called once, when all units are done.
  at::Tensor sum();

 private:
  struct Chunk {
    at::Tensor sums_BTHD{};             // set for tokens_BH only
    std::vector<TokenRange> tokens_BH;  // the queries that a unit has stored
  };
  void add_head(int64_t b, int64_t h);

  std::vector<Chunk> chunks_;
};

}  // namespace tessera::flex
