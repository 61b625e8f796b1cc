// Backward pass. A unit of work is a range of key blocks of one (batch row, key/value head): it
// owns these rows of dK and dV, copies the queries that they meet, and sums their dQ, which is
// added to that of other units of the same head in a fixed order. So nothing is recomputed twice,
// and the result does not depend on the number of threads.
//
// With do and dlse the gradients of out and lse, and s the masked scores:
//
//   lse'  = logaddexp(lse, sink)                   lse without sinks
//   p     = exp(s - lse')
//   dot   = sum_e do_e out_e                       of each query and head
//   delta = dot - dlse exp(lse' - lse)
//   dv   += p^T do
//   dp    = do v^T
//   ds    = p (dp - delta)                         also the gradient of the bias
//   ds   *= 1 - tanh^2(scale q k^T / soft_cap)     only with a soft cap
//   dq   += scale ds k
//   dk   += scale ds^T q
//   dsink = -sum_bq exp(sink - lse') dot           over all batch rows and queries of a head
//
// Shape legend: as in attention/op/attention.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "attention/backends/flex/flex_passes.h"
#include "attention/backends/flex/query_sums.h"
#include "attention/backends/flex/row_terms.h"
#include "attention/backends/flex/run_units.h"
#include "attention/block_mask/block_mask_shared.h"

namespace tessera::flex {

namespace {

// The buffers of one thread: scores, d_scores and slopes of one slab of a tile, d_k and d_v of one
// block of keys, d_q of the queries of one unit.
struct Buffers {
  Buffers(const FlexProblem& problem, std::unique_ptr<BackwardProducts> own, int64_t qk_dim,
          int64_t v_dim)
      : products(std::move(own)),
        scores(kSlabRows * problem.block_cols()),
        d_scores(scores.size()),
        slopes(problem.has_soft_cap() ? scores.size() : 0),
        d_k(problem.block_cols() * padded(qk_dim)),
        d_v(problem.block_cols() * padded(v_dim)),
        d_q(qk_dim) {}

  std::unique_ptr<BackwardProducts> products;
  std::vector<float> scores;
  std::vector<float> d_scores;
  std::vector<float> slopes;
  std::vector<float> d_k;
  std::vector<float> d_v;
  QuerySums d_q;
};

class BackwardPass {
 public:
  BackwardPass(const FlexInputs& inputs, const BlockMask& mask, const ForwardResult& result,
               const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT, bool wants_d_bias,
               const TileKernels& kernels)
      : problem_(inputs, mask, kernels),
        plan_(backward_plan(mask, problem_.areas(), problem_.counts())),
        operands_(as_operands(inputs, problem_.multiplies_bf16())),
        d_out_BTHE_(as_operand(d_out_BTHE, problem_.multiplies_bf16())),
        terms_(row_terms(inputs.sinks_H, result, d_out_BTHE_, d_lse_BHT)),
        d_q_(inputs.q_BTHD.sizes(), plan_.num_chunks) {
    gradients_.d_k_BSKD = at::empty(inputs.k_BSKD.sizes(), at::kFloat);
    gradients_.d_v_BSKE = at::empty(inputs.v_BSKE.sizes(), at::kFloat);
    gradients_.d_sinks_H = terms_.d_sinks_H;
    if (wants_d_bias) gradients_.d_bias_BHTS = at::zeros(inputs.bias_BHTS.sizes(), at::kFloat);
  }

  BackwardResult run() {
    const std::vector<std::vector<size_t>> lanes = lanes_of_units();
    run_units(
        lanes.size(), [&] { return make_buffers(); },
        [&](size_t lane, Buffers& buffers) {
          for (const size_t unit : lanes[lane]) run_unit(plan_.units[unit], buffers);
        });
    gradients_.d_q_BTHD = d_q_.sum();
    return gradients_;
  }

 private:
  // Units that run one after another because they add to the same entries of the bias's gradient;
  // without that gradient every unit is a lane of its own.
  std::vector<std::vector<size_t>> lanes_of_units() const {
    const at::Tensor& d_bias = gradients_.d_bias_BHTS;
    // Chunks of different heads or rows hold the same keys only where the mask is the same for all.
    const MaskShape& shape = problem_.mask().shape();
    const bool chunks_are_equal = !d_bias.defined() || (shape.batch == 1 && shape.heads == 1);
    std::map<std::tuple<int32_t, int32_t, int32_t>, std::vector<size_t>> lanes;
    for (size_t i = 0; i < plan_.units.size(); ++i) {
      const WorkUnit& unit = plan_.units[i];
      const auto own = [&](int64_t dim, int32_t index) {
        return !d_bias.defined() || d_bias.size(dim) > 1 ? index : 0;
      };
      const int32_t chunk = chunks_are_equal ? own(3, unit.chunk) : 0;
      lanes[{own(0, unit.b), own(1, unit.h), chunk}].push_back(i);
    }
    std::vector<std::vector<size_t>> ordered;
    ordered.reserve(lanes.size());
    for (auto& [key, units] : lanes) ordered.push_back(std::move(units));
    const auto cost = [&](const std::vector<size_t>& units) {
      int64_t sum = 0;
      for (const size_t unit : units) sum += plan_.units[unit].cost;
      return sum;
    };
    std::stable_sort(ordered.begin(), ordered.end(),
                     [&](const auto& x, const auto& y) { return cost(x) > cost(y); });
    return ordered;
  }

  Buffers make_buffers() const {
    return {problem_,
            backward_products(operands_, d_out_BTHE_, problem_.mask(), problem_.kernels()),
            operands_.q_BTHD.size(3), operands_.v_BSKE.size(3)};
  }

  HeadTokens tokens_of(const HeadBlocks& queries) const {
    const int64_t block = problem_.mask().shape().block.q;
    return {queries.b,
            queries.h,
            queries.num_heads,
            {queries.begin * block, std::min(queries.end * block, problem_.q_len())}};
  }

  void run_unit(const WorkUnit& unit, Buffers& buffers) {
    const HeadBlocks queries = problem_.queries_of(unit);
    buffers.products->load_queries(queries);
    buffers.d_q.begin(tokens_of(queries));
    for (int64_t kv_block = unit.begin; kv_block < unit.end; ++kv_block) {
      buffers.products->load_keys(
          {.b = unit.b, .h = unit.h, .begin = kv_block, .end = kv_block + 1});
      add_keys(queries, kv_block, buffers);
      write_keys(unit, kv_block, buffers);
    }
    d_q_.store(unit.chunk, buffers.d_q, operands_.scale, problem_.kernels());
  }

  // Adds all tiles of one block of keys.
  void add_keys(const HeadBlocks& heads, int64_t kv_block, Buffers& buffers) {
    std::fill(buffers.d_k.begin(), buffers.d_k.end(), 0.0F);
    std::fill(buffers.d_v.begin(), buffers.d_v.end(), 0.0F);
    TilePiece piece{.b = heads.b, .kv_block = kv_block};
    for (piece.h = heads.h; piece.h < heads.h + heads.num_heads; ++piece.h) {
      for (const BlockRun& run : problem_.mask().q_runs(piece.b, piece.h, kv_block)) {
        for (piece.q_block = run.begin; piece.q_block < run.end; ++piece.q_block) {
          problem_.for_each_slab(piece, run,
                                 [&](const TileSlab& slab) { add_slab(slab, buffers); });
        }
      }
    }
  }

  void add_slab(const TileSlab& slab, Buffers& buffers) {
    BackwardProducts& products = *buffers.products;
    const auto p = [&](const TilePiece& piece) {
      return problem_.tile_of(piece, buffers.scores.data());
    };
    const auto d_s = [&](const TilePiece& piece) {
      return problem_.tile_of(piece, buffers.d_scores.data());
    };
    problem_.scores(products, slab, buffers.scores.data(), buffers.slopes.data());
    slab.by_rows([&](const TilePiece& piece) {
      problem_.kernels().probabilities(p(piece), rows_of(piece, terms_.lse_BHT));
    });
    problem_.clear_gaps(slab, buffers.d_scores.data());
    slab.by_columns([&](const TilePiece& piece) {
      products.add_d_values(piece, p(piece), buffers.d_v.data());
      products.d_probabilities(piece, d_s(piece));
    });
    slab.by_rows([&](const TilePiece& piece) {
      finish_d_scores(piece, p(piece), d_s(piece), buffers);
      float* d_q = buffers.d_q.at(piece.h, problem_.first_query(piece));
      products.add_d_queries(piece, d_s(piece), d_q);
    });
    slab.by_columns([&](const TilePiece& piece) {
      products.add_d_keys(piece, d_s(piece), buffers.d_k.data());
    });
  }

  // The entries of a piece's rows in a [B, H, T] tensor.
  const float* rows_of(const TilePiece& piece, const at::Tensor& terms_BHT) const {
    return terms_BHT.const_data_ptr<float>() +
           (piece.b * problem_.counts().heads + piece.h) * problem_.q_len() +
           problem_.first_query(piece);
  }

  // Turns the gradient of the probabilities into that of the products q k^T.
  void finish_d_scores(const TilePiece& piece, const ScoreTile& p, const ScoreTile& d_s,
                       const Buffers& buffers) {
    const TileKernels& kernels = problem_.kernels();
    kernels.score_gradients(p, d_s.scores, rows_of(piece, terms_.delta_BHT));
    if (gradients_.d_bias_BHTS.defined()) add_d_bias(piece, d_s);
    if (problem_.has_soft_cap()) {
      const float* slopes = buffers.slopes.data() + (p.scores - buffers.scores.data());
      kernels.multiply_elements(d_s.scores, slopes, p.ld, p.rows, p.cols);
    }
  }

  void add_d_bias(const TilePiece& piece, const ScoreTile& d_s) {
    auto* d_bias = gradients_.d_bias_BHTS.mutable_data_ptr<float>();
    const int64_t q = problem_.first_query(piece);
    const int64_t kv = problem_.first_key(piece);
    for (int i = 0; i < d_s.rows; ++i) {
      for (int j = 0; j < d_s.live_cols; ++j) {
        d_bias[problem_.bias_index(piece.b, piece.h, q + i, kv + j)] += d_s.scores[i * d_s.ld + j];
      }
    }
  }

  void write_keys(const WorkUnit& unit, int64_t kv_block, const Buffers& buffers) {
    const MaskShape& shape = problem_.mask().shape();
    const TokenRange keys = block_tokens(kv_block, shape.block.kv, shape.kv_len);
    const auto scale = static_cast<float>(operands_.scale);
    const auto write = [&](const std::vector<float>& from, KeyLayout layout, float factor,
                           const at::Tensor& to) {
      const auto dim = static_cast<int>(to.size(3));
      const auto num_keys = static_cast<int>(keys.size());
      float* rows = to.mutable_data_ptr<float>() + row_offset(to, unit.b, keys.begin, unit.h);
      if (layout.dim_stride == 1) {
        problem_.kernels().copy_rows(from.data(), layout.key_stride, num_keys, dim, factor, rows,
                                     to.stride(1));
        return;
      }
      for (int key = 0; key < num_keys; ++key, rows += to.stride(1)) {
        const float* row = from.data() + key * layout.key_stride;
        for (int d = 0; d < dim; ++d) rows[d] = row[d * layout.dim_stride] * factor;
      }
    };
    write(buffers.d_k, buffers.products->d_k_layout(), scale, gradients_.d_k_BSKD);
    write(buffers.d_v, buffers.products->d_v_layout(), 1.0F, gradients_.d_v_BSKE);
  }

  FlexProblem problem_;
  BackwardPlan plan_;
  FlexInputs operands_;
  at::Tensor d_out_BTHE_;  // as an operand
  RowTerms terms_;
  QueryGradient d_q_;
  BackwardResult gradients_;
};

}  // namespace

BackwardResult backward(const FlexInputs& inputs, const BlockMask& mask,
                        const ForwardResult& result, const at::Tensor& d_out_BTHE,
                        const at::Tensor& d_lse_BHT, bool wants_d_bias,
                        const TileKernels& kernels) {
  return BackwardPass(inputs, mask, result, d_out_BTHE, d_lse_BHT, wants_d_bias, kernels).run();
}

}  // namespace tessera::flex
