// Forward pass: one unit of work per block of queries and head, which owns its rows of the output.
// Keys come in ascending order, a block at a time; an online softmax keeps the running maximum and
// sum of every row.
#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>

#include "attention/block_mask_shared.h"
#include "attention/flex/flex_passes.h"
#include "attention/flex/run_units.h"

namespace tessera::flex {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// log(exp(a) + exp(b)), also for -inf.
float log_add_exp(float a, float b) {
  const float high = std::max(a, b);
  return high == -kInfinity ? high : high + std::log1p(std::exp(std::min(a, b) - high));
}

// Running state of the rows of one block of queries.
struct RowState {
  RowState(const FlexProblem& problem, const ForwardProducts& products, int64_t width)
      : scratch(products.scratch()),
        scores(kSlabRows * problem.block_cols()),
        sums(padded(problem.block_rows()) * width),
        maximum(problem.block_rows()),
        sum(problem.block_rows()),
        rescale(kSlabRows) {}

  void clear() {
    std::fill(sums.begin(), sums.end(), 0.0F);
    std::fill(maximum.begin(), maximum.end(), -kInfinity);
    std::fill(sum.begin(), sum.end(), 0.0F);
  }

  ProductScratch scratch;
  std::vector<float> scores;
  std::vector<float> sums;  // of p * v, [rows, width]
  std::vector<float> maximum;
  std::vector<float> sum;  // of p
  std::vector<float> rescale;
};

class ForwardPass {
 public:
  ForwardPass(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels)
      : problem_(inputs, mask, kernels),
        products_(forward_products(inputs, mask, kernels)),
        v_dim_(inputs.v_BSKE.size(3)),
        width_(padded(v_dim_)) {
    result_.out_BTHE =
        at::empty({problem_.batch(), problem_.q_len(), problem_.heads(), v_dim_}, at::kFloat);
    result_.lse_BHT = at::empty({problem_.batch(), problem_.heads(), problem_.q_len()}, at::kFloat);
    if (inputs.sinks_H.defined()) sinks_H_ = inputs.sinks_H.to(at::kFloat).contiguous();
  }

  ForwardResult run() {
    const std::vector<WorkUnit> units =
        forward_units(problem_.mask(), problem_.areas(), problem_.batch(), problem_.heads());
    run_units(
        units.size(), [&] { return RowState(problem_, *products_, width_); },
        [&](size_t i, RowState& state) { run_unit(units[i], state); });
    return result_;
  }

 private:
  void run_unit(const WorkUnit& unit, RowState& state) const {
    state.clear();
    TilePart part{.b = unit.b, .h = unit.h, .q_block = unit.begin};
    for (const BlockRun& run : problem_.mask().runs(unit.b, unit.h, unit.begin)) {
      for (part.kv_block = run.begin; part.kv_block < run.end; ++part.kv_block) {
        problem_.for_each_slab(part, run, [&](const TileSlab& slab) { add_slab(slab, state); });
      }
    }
    write_rows(unit, state);
  }

  void add_slab(const TileSlab& slab, RowState& state) const {
    problem_.scores(*products_, slab, state.scores.data(), nullptr);
    slab.by_rows([&](const TilePart& part) { add_part(part, state); });
  }

  void add_part(const TilePart& part, RowState& state) const {
    const TileKernels& kernels = problem_.kernels();
    const ScoreTile tile = problem_.tile_of(part, state.scores.data());
    float* sums = state.sums.data() + part.area.row * width_;
    const bool rescaled =
        kernels.softmax_step(tile, state.maximum.data() + part.area.row,
                             state.sum.data() + part.area.row, state.rescale.data());
    if (rescaled) {
      const auto width = static_cast<int>(width_);
      kernels.scale_rows(sums, width, tile.rows, width, state.rescale.data());
    }
    products_->add_values(part, tile, sums, state.scratch);
  }

  void write_rows(const WorkUnit& unit, const RowState& state) const {
    const MaskShape& shape = problem_.mask().shape();
    const TokenRange queries = block_tokens(unit.begin, shape.block.q, shape.q_len);
    auto* lse = result_.lse_BHT.mutable_data_ptr<float>() +
                (unit.b * problem_.heads() + unit.h) * problem_.q_len();
    auto* out = result_.out_BTHE.mutable_data_ptr<float>();
    for (int64_t q = queries.begin; q < queries.end; ++q) {
      const int64_t row = q - queries.begin;
      lse[q] = state.maximum[row] + std::log(state.sum[row]);
      float* to = out + ((unit.b * problem_.q_len() + q) * problem_.heads() + unit.h) * v_dim_;
      const float factor = normaliser(unit.h, lse[q], state.sum[row]);
      for (int64_t e = 0; e < v_dim_; ++e) to[e] = state.sums[row * width_ + e] * factor;
    }
  }

  // What the sum of p * v is to be multiplied by.
  float normaliser(int64_t h, float lse, float sum) const {
    if (sum == 0) return 0;
    if (!sinks_H_.defined()) return 1 / sum;
    const float sink = sinks_H_.const_data_ptr<float>()[h];
    return std::exp(lse - log_add_exp(lse, sink)) / sum;
  }

  FlexProblem problem_;
  std::unique_ptr<ForwardProducts> products_;
  int64_t v_dim_;
  int64_t width_;  // of a row of sums
  at::Tensor sinks_H_;
  ForwardResult result_;
};

}  // namespace

ForwardResult forward(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels) {
  return ForwardPass(inputs, mask, kernels).run();
}

}  // namespace tessera::flex
