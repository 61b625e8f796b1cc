#include "attention/backends/flex/flex_problem.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera::flex {

namespace {

// Sets the blocks from the first to the last in the runs of a unit's blocks.
template <typename Runs>
void set_hull(const WorkUnit& unit, const HeadBlocks& heads, Runs runs, HeadBlocks& hull) {
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
  for (int64_t h = heads.h; h < heads.h + heads.num_heads; ++h) {
    for (int64_t block = unit.begin; block < unit.end; ++block) {
      for (const BlockRun& run : runs(h, block)) {
        begin = std::min<int64_t>(begin, run.begin);
        end = std::max<int64_t>(end, run.end);
      }
    }
  }
  hull.begin = std::min(begin, end);
  hull.end = end;
}

}  // namespace

FlexProblem::FlexProblem(const FlexInputs& inputs, const BlockMask& mask,
                         const TileKernels& kernels)
    : mask_(mask),
      kernels_(kernels),
      counts_{.batch = inputs.q_BTHD.size(0),
              .heads = inputs.q_BTHD.size(2),
              .kv_heads = inputs.k_BSKD.size(2)},
      multiplies_bf16_(multiplies_in_bf16(inputs, mask, kernels)),
      areas_(mask, multiplies_bf16_ ? kBf16Depth : kPad),
      soft_cap_(static_cast<float>(inputs.soft_cap.value_or(0.0))) {
  if (inputs.bias_BHTS.defined()) {
    bias_ = inputs.bias_BHTS.to(at::kFloat).contiguous();
    for (int64_t dim = 0; dim < 4; ++dim) {
      bias_strides_.push_back(bias_.size(dim) == 1 ? 0 : bias_.stride(dim));
    }
  }
  if (inputs.alibi_slopes_H.defined()) {
    const at::Tensor slopes = inputs.alibi_slopes_H.to(at::kFloat).contiguous();
    alibi_slopes_.assign(slopes.const_data_ptr<float>(),
                         slopes.const_data_ptr<float>() + counts_.heads);
  }
}

HeadBlocks FlexProblem::heads_of(const WorkUnit& unit) const {
  const int64_t group = counts_.heads / counts_.kv_heads;
  return {.b = unit.b, .h = unit.h * group, .num_heads = group};
}

HeadBlocks FlexProblem::keys_of(const WorkUnit& unit) const {
  HeadBlocks keys{.b = unit.b, .h = unit.h};
  const auto runs = [&](int64_t h, int64_t block) { return mask_.runs(unit.b, h, block); };
  set_hull(unit, heads_of(unit), runs, keys);
  return keys;
}

HeadBlocks FlexProblem::queries_of(const WorkUnit& unit) const {
  HeadBlocks queries = heads_of(unit);
  const auto runs = [&](int64_t h, int64_t block) { return mask_.q_runs(unit.b, h, block); };
  set_hull(unit, queries, runs, queries);
  return queries;
}

ScoreTile FlexProblem::tile_of(const TilePiece& piece, float* buffer) const {
  const MaskShape& shape = mask_.shape();
  const int64_t keys = block_tokens(piece.kv_block, shape.block.kv, shape.kv_len).size();
  const int64_t live = std::min<int64_t>(piece.area.span.end, keys) - piece.area.span.begin;
  return {.scores = buffer + piece.area.row % kSlabRows * block_cols() + piece.area.span.begin,
          .ld = block_cols(),
          .rows = piece.area.num_rows,
          .cols = piece.area.span.size(),
          .live_cols = static_cast<int>(live)};
}

void FlexProblem::scores(const Products& products, const TileSlab& slab, float* buffer,
                         float* slopes) const {
  clear_gaps(slab, buffer);
  slab.by_columns([&](const TilePiece& piece) { products.scores(piece, tile_of(piece, buffer)); });
  slab.by_rows([&](const TilePiece& piece) {
    const ScoreTile tile = tile_of(piece, buffer);
    finish_scores(piece, tile, slopes == nullptr ? nullptr : slopes + (tile.scores - buffer));
  });
}

void FlexProblem::finish_scores(const TilePiece& piece, const ScoreTile& tile,
                                float* slopes) const {
  if (soft_cap_ != 0) kernels_.cap_scores(tile, soft_cap_, slopes);
  if (has_bias()) add_bias(piece, tile);
  if (!alibi_slopes_.empty()) {
    const auto distance = static_cast<float>(first_key(piece) - first_query(piece));
    kernels_.add_alibi(tile, alibi_slopes_[piece.h], distance);
  }
  MaskBits bits{nullptr, mask_.data().words_per_row(), piece.area.span.begin};
  if (piece.tile != BlockRun::kFullTiles) {
    bits.words = tile_words(mask_.data(), piece.tile) + piece.area.row * bits.words_per_row;
  }
  if (bits.words != nullptr || tile.live_cols < tile.cols) kernels_.mask_scores(tile, bits);
}

void FlexProblem::clear_gaps(const TileSlab& slab, float* buffer) const {
  for (const TileArea& rows : slab.areas.by_rows) {
    for (const TileArea& columns : slab.areas.by_columns) {
      const int32_t begin = std::max(rows.span.begin, columns.span.begin);
      const int32_t end = std::min(rows.span.end, columns.span.end);
      if (begin >= end) continue;
      for (int32_t row = rows.row; row < rows.row + rows.num_rows; ++row) {
        if (row >= columns.row && row < columns.row + columns.num_rows) continue;
        float* to = buffer + row % kSlabRows * block_cols();
        std::memset(to + begin, 0, (end - begin) * sizeof(float));
      }
    }
  }
}

int64_t FlexProblem::bias_index(int64_t b, int64_t h, int64_t q, int64_t kv) const {
  return b * bias_strides_[0] + h * bias_strides_[1] + q * bias_strides_[2] + kv * bias_strides_[3];
}

void FlexProblem::add_bias(const TilePiece& piece, const ScoreTile& tile) const {
  const auto* bias = bias_.const_data_ptr<float>();
  const int64_t q = first_query(piece);
  const int64_t kv = first_key(piece);
  for (int i = 0; i < tile.rows; ++i) {
    const float* row = bias + bias_index(piece.b, piece.h, q + i, kv);
    for (int j = 0; j < tile.live_cols; ++j) {
      tile.scores[i * tile.ld + j] += row[j * bias_strides_[3]];
    }
  }
}

}  // namespace tessera::flex
