// Sums of the gradient of q over keys: a copy for each chunk of keys (see BackwardPlan), of which a
// unit of work fills the rows that meet its keys. The copies are added in order at the end.
//
// Shape legend: as in attention/attention.h; C chunks.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "attention/block_mask.h"
#include "attention/flex/tile_plan.h"

namespace tessera::flex {

struct QuerySizes {
  int64_t num_chunks;
  int64_t batch;
  int64_t heads;
  int64_t kv_heads;
  int64_t q_len;
  int64_t dim;
};

class QuerySums {
 public:
  explicit QuerySums(const QuerySizes& sizes);

  // Before a unit adds anything: these rows of all query heads of its key/value head become zero.
  void begin(const WorkUnit& unit, TokenRange rows);

  // [rows from q on, padded(dim)] of a chunk. Up to kPad rows beyond those of `begin` may be
  // written.
  float* at(int64_t chunk, int64_t b, int64_t h, int64_t q);

  // scale * the sum over chunks, [B, T, H, D], once all units are done.
  at::Tensor sum(double scale);

 private:
  TokenRange& rows_of(int64_t chunk, int64_t b, int64_t kv_head);
  void add_head(int64_t b, int64_t h, float scale, float* out_TD, ptrdiff_t token_stride);

  QuerySizes sizes_;
  at::Tensor sums_CBHTD_;         // written where a unit began
  std::vector<TokenRange> rows_;  // by chunk, b, key/value head
};

}  // namespace tessera::flex
