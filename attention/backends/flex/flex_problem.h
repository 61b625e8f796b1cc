// FlexProblem: one call of flex attention, that is its mask in slabs, and the masked scores of a
// slab, which the forward and the backward pass compute alike.
// Internal to attention/backends/flex/.
//
// A problem is read-only once it is made, so all threads of a pass share it.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "attention/backends/flex/products.h"
#include "attention/backends/flex/tile_plan.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

class FlexProblem {
 public:
  // The problem keeps references to `mask` and `kernels`, which must outlive it.
  FlexProblem(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels);

  const BlockMask& mask() const { return mask_; }
  const TileAreas& areas() const { return areas_; }
  const TileKernels& kernels() const { return kernels_; }

  const HeadCounts& counts() const { return counts_; }
  bool multiplies_bf16() const { return multiplies_bf16_; }
  int64_t q_len() const { return mask_.shape().q_len; }
  int64_t kv_len() const { return mask_.shape().kv_len; }
  bool has_soft_cap() const { return soft_cap_ != 0; }

  // The most rows of a block of queries, and the most columns of a block of keys, with padding.
  int64_t block_rows() const { return std::min(mask_.shape().block.q, q_len()); }
  int64_t block_cols() const { return padded(std::min(mask_.shape().block.kv, kv_len())); }

  // The query heads of a unit's key/value head, with an empty range of blocks.
  HeadBlocks heads_of(const WorkUnit& unit) const;

  // keys_of: for a unit of query blocks, the blocks of keys that they meet, from the first to the
  // last. queries_of: for a unit of key blocks, the blocks of queries that they meet.
  HeadBlocks keys_of(const WorkUnit& unit) const;
  HeadBlocks queries_of(const WorkUnit& unit) const;

  // The token at the first row of a piece, and the one at its first column.
  int64_t first_query(const TilePiece& piece) const {
    return piece.q_block * mask_.shape().block.q + piece.area.row;
  }
  int64_t first_key(const TilePiece& piece) const {
    return piece.kv_block * mask_.shape().block.kv + piece.area.span.begin;
  }

  // Calls visit(slab) for the slabs of one run of tiles of `tile`'s key block, ascending.
  template <typename Visit>
  void for_each_slab(TilePiece tile, const BlockRun& run, Visit visit) const;

  // The place of a piece in `buffer`, which is [kSlabRows, block_cols()] for the whole slab.
  ScoreTile tile_of(const TilePiece& piece, float* buffer) const;

  // Writes the masked scores of a slab's areas by rows to `buffer`, and the derivatives of the soft
  // cap to `slopes`, unless it is null or there is no cap. Both are laid out as in tile_of.
  void scores(const Products& products, const TileSlab& slab, float* buffer, float* slopes) const;

  // Sets to zero what a slab's areas by rows hold beside its areas by columns: no product by
  // columns writes there, and sums over rows read it.
  void clear_gaps(const TileSlab& slab, float* buffer) const;

  // The index of bias entry (b, h, q, kv) in a contiguous tensor of the bias's (broadcast) shape.
  int64_t bias_index(int64_t b, int64_t h, int64_t q, int64_t kv) const;
  bool has_bias() const { return bias_.defined(); }

 private:
  void finish_scores(const TilePiece& piece, const ScoreTile& tile, float* slopes) const;
  void add_bias(const TilePiece& piece, const ScoreTile& tile) const;

  const BlockMask& mask_;
  const TileKernels& kernels_;
  HeadCounts counts_;
  bool multiplies_bf16_;
  TileAreas areas_;
  at::Tensor bias_;  // float32, contiguous
  std::vector<int64_t> bias_strides_;
  std::vector<float> alibi_slopes_;
  float soft_cap_;  // 0: none
};

template <typename Visit>
void FlexProblem::for_each_slab(TilePiece tile, const BlockRun& run, Visit visit) const {
  const MaskShape& shape = mask_.shape();
  const int64_t rows = std::min(shape.block.q, shape.q_len - tile.q_block * shape.block.q);
  const int64_t keys = std::min(shape.block.kv, shape.kv_len - tile.kv_block * shape.block.kv);
  tile.tile = run.tile;
  const ColumnSpan columns{0, static_cast<int32_t>(padded(keys))};
  for (int64_t row = 0; row < rows; row += kSlabRows) {
    const auto num_rows = static_cast<int32_t>(std::min<int64_t>(kSlabRows, rows - row));
    const TileArea all{static_cast<int32_t>(row), num_rows, columns};
    TileSlab slab{.tile = tile, .areas = {{&all, 1}, {&all, 1}}};
    if (!run.full()) slab.areas = areas_.at(run.tile, row / kSlabRows);
    visit(std::as_const(slab));
  }
}

}  // namespace tessera::flex
