// Forward pass. A unit of work is a range of blocks of queries, of the query heads of one key/value
// head. A unit copies the keys and values that its queries meet, and owns its rows of the output.
// For a block of queries, keys come in ascending order, a block at a time; an online softmax keeps
// the running maximum and sum of every row.
#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>

#include "attention/backends/flex/flex_passes.h"
#include "attention/backends/flex/run_units.h"
#include "attention/block_mask/block_mask_shared.h"

namespace tessera::flex {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// log(exp(a) + exp(b)), also for -inf.
float log_add_exp(float a, float b) {
  const float high = std::max(a, b);
  return high == -kInfinity ? high : high + std::log1p(std::exp(std::min(a, b) - high));
}

// The products and buffers of one thread, and the running state of the rows of one block of
// queries.
struct RowState {
  RowState(const FlexProblem& problem, std::unique_ptr<ForwardProducts> own, int64_t width)
      : products(std::move(own)),
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

  std::unique_ptr<ForwardProducts> products;
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
        operands_(as_operands(inputs, problem_.multiplies_bf16())),
        v_dim_(inputs.v_BSKE.size(3)),
        width_(padded(v_dim_)) {
    const auto& [batch, heads, kv_heads] = problem_.counts();
    result_.out_BTHE = at::empty({batch, problem_.q_len(), heads, v_dim_}, at::kFloat);
    result_.lse_BHT = at::empty({batch, heads, problem_.q_len()}, at::kFloat);
    if (inputs.sinks_H.defined()) sinks_H_ = inputs.sinks_H.to(at::kFloat).contiguous();
  }

  ForwardResult run() {
    const std::vector<WorkUnit> units =
        forward_units(problem_.mask(), problem_.areas(), problem_.counts(), at::get_num_threads());
    run_units(
        units.size(), [&] { return make_state(); },
        [&](size_t i, RowState& state) { run_unit(units[i], state); });
    return result_;
  }

 private:
  RowState make_state() const {
    return {problem_, forward_products(operands_, problem_.mask(), problem_.kernels()), width_};
  }

  void run_unit(const WorkUnit& unit, RowState& state) const {
    state.products->load_keys(problem_.keys_of(unit));
    HeadBlocks queries = problem_.heads_of(unit);
    const int64_t end_head = queries.h + queries.num_heads;
    for (queries.num_heads = 1; queries.h < end_head; ++queries.h) {
      for (int64_t q_block = unit.begin; q_block < unit.end; ++q_block) {
        queries.begin = q_block;
        queries.end = q_block + 1;
        state.products->load_queries(queries);
        run_block({.b = unit.b, .h = queries.h, .q_block = q_block}, state);
      }
    }
  }

  void run_block(TilePiece piece, RowState& state) const {
    state.clear();
    for (const BlockRun& run : problem_.mask().runs(piece.b, piece.h, piece.q_block)) {
      for (piece.kv_block = run.begin; piece.kv_block < run.end; ++piece.kv_block) {
        problem_.for_each_slab(piece, run, [&](const TileSlab& slab) { add_slab(slab, state); });
      }
    }
    write_rows(piece, state);
  }

  void add_slab(const TileSlab& slab, RowState& state) const {
    problem_.scores(*state.products, slab, state.scores.data(), nullptr);
    slab.by_rows([&](const TilePiece& piece) { add_part(piece, state); });
  }

  void add_part(const TilePiece& piece, RowState& state) const {
    const TileKernels& kernels = problem_.kernels();
    const ScoreTile tile = problem_.tile_of(piece, state.scores.data());
    float* sums = state.sums.data() + piece.area.row * width_;
    const bool rescaled =
        kernels.softmax_step(tile, state.maximum.data() + piece.area.row,
                             state.sum.data() + piece.area.row, state.rescale.data());
    if (rescaled) {
      const auto width = static_cast<int>(width_);
      kernels.scale_rows(sums, width, tile.rows, width, state.rescale.data());
    }
    state.products->add_values(piece, tile, sums);
  }

  void write_rows(const TilePiece& rows, RowState& state) const {
    const MaskShape& shape = problem_.mask().shape();
    const TokenRange queries = block_tokens(rows.q_block, shape.block.q, shape.q_len);
    auto* lse = result_.lse_BHT.mutable_data_ptr<float>() + rows.b * result_.lse_BHT.stride(0) +
                rows.h * problem_.q_len();
    for (int64_t q = queries.begin; q < queries.end; ++q) {
      const int64_t row = q - queries.begin;
      lse[q] = state.maximum[row] + std::log(state.sum[row]);
      state.sum[row] = normaliser(rows.h, lse[q], state.sum[row]);
    }
    const at::Tensor& out_BTHE = result_.out_BTHE;
    float* out =
        out_BTHE.mutable_data_ptr<float>() + row_offset(out_BTHE, rows.b, queries.begin, rows.h);
    const auto num_rows = static_cast<int>(queries.size());
    const TileKernels& kernels = problem_.kernels();
    kernels.scale_rows(state.sums.data(), width_, num_rows, static_cast<int>(width_),
                       state.sum.data());
    kernels.copy_rows(state.sums.data(), width_, num_rows, static_cast<int>(v_dim_), 1.0F, out,
                      out_BTHE.stride(1));
  }

  // The factor that turns the sum of p * v into out.
  float normaliser(int64_t h, float lse, float sum) const {
    if (sum == 0) return 0;
    if (!sinks_H_.defined()) return 1 / sum;
    const float sink = sinks_H_.const_data_ptr<float>()[h];
    return std::exp(lse - log_add_exp(lse, sink)) / sum;
  }

  FlexProblem problem_;
  FlexInputs operands_;
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
