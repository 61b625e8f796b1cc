// One call of flex attention: its mask in parts, and the scores of a part, which the forward and
// the backward pass compute alike.
//
// Shape legend: as in attention/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "attention/block_mask.h"
#include "attention/flex/products.h"
#include "attention/flex/tile_plan.h"

namespace tessera::flex {

class FlexProblem {
 public:
  // `kernels` outlives the problem; so does the mask.
  FlexProblem(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels);

  const BlockMask& mask() const { return mask_; }
  const TileSpans& spans() const { return spans_; }
  const TileKernels& kernels() const { return kernels_; }

  int64_t batch() const { return batch_; }
  int64_t heads() const { return heads_; }
  int64_t kv_heads() const { return kv_heads_; }
  int64_t q_len() const { return mask_.shape().q_len; }
  int64_t kv_len() const { return mask_.shape().kv_len; }
  bool has_soft_cap() const { return soft_cap_ != 0; }

  // Most rows of a block of queries, and columns of a block of keys with padding.
  int64_t block_rows() const { return std::min(mask_.shape().block.q, q_len()); }
  int64_t block_cols() const { return padded(std::min(mask_.shape().block.kv, kv_len())); }

  // Calls visit(part) for the parts of one run of tiles, rows at a time, ascending.
  template <typename Visit>
  void for_each_part(TilePart part, const BlockRun& run, Visit visit) const;

  // Masked scores of a part in `buffer`, of leading dimension block_cols(). slopes: the derivative
  // of the soft cap, likewise, or none.
  ScoreTile scores(const Products& products, const TilePart& part, float* buffer,
                   float* slopes) const;

  // Where bias entry (b, h, q, kv) is, in a tensor of the bias's (broadcast) shape.
  int64_t bias_index(int64_t b, int64_t h, int64_t q, int64_t kv) const;
  bool has_bias() const { return bias_.defined(); }

 private:
  void add_bias(const TilePart& part, const ScoreTile& tile) const;

  const BlockMask& mask_;
  TileSpans spans_;
  const TileKernels& kernels_;
  int64_t batch_;
  int64_t heads_;
  int64_t kv_heads_;
  at::Tensor bias_;  // float32, contiguous
  std::vector<int64_t> bias_strides_;
  std::vector<float> alibi_slopes_;
  float soft_cap_;  // 0: none
};

template <typename Visit>
void FlexProblem::for_each_part(TilePart part, const BlockRun& run, Visit visit) const {
  const MaskShape& shape = mask_.shape();
  const int64_t rows = std::min(shape.block.q, shape.q_len - part.q_block * shape.block.q);
  const int64_t keys = std::min(shape.block.kv, shape.kv_len - part.kv_block * shape.block.kv);
  const int64_t step = run.full() ? kFullRows : kRowStep;
  part.tile = run.tile;
  part.span = {0, static_cast<int32_t>(padded(keys))};
  for (part.row = 0; part.row < rows; part.row += step) {
    if (!run.full()) part.span = spans_.at(run.tile, part.row / kRowStep);
    if (part.span.empty()) continue;
    part.num_rows = static_cast<int>(std::min(step, rows - part.row));
    visit(part);
  }
}

}  // namespace tessera::flex
