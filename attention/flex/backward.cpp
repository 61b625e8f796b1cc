// Backward pass. A unit of work is a range of key blocks of one (batch row, key/value head): it
// owns these rows of dK and dV, and adds to one copy of dQ, which no other unit of the same head
// touches. So nothing is recomputed twice and the order of every sum is fixed: the result does not
// depend on the number of threads.
//
//   p = exp(s - lse'),  lse' = logaddexp(lse, sink)        dv += p^T do
//   dp = do v^T                                            ds = p (dp - delta)
//   dk += ds^T q scale                                     dq += ds k scale
//   delta = sum_e do out - dlse exp(lse' - lse)            dsink = -sum_q exp(sink - lse') sum_e do
//   out
//
// Shape legend: as in attention/attention.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "attention/block_mask_shared.h"
#include "attention/flex/flex_passes.h"
#include "attention/flex/query_sums.h"
#include "attention/flex/run_units.h"

namespace tessera::flex {

namespace {

// Per row: lse' and delta, [B, H, T].
struct RowTerms {
  at::Tensor lse_BHT{};
  at::Tensor delta_BHT{};
  at::Tensor d_sinks_H{};
};

RowTerms row_terms(const FlexInputs& inputs, const ForwardResult& result,
                   const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT) {
  RowTerms terms;
  const at::Tensor d_out = d_out_BTHE.to(at::kFloat);
  const at::Tensor& lse_BHT = result.lse_BHT;
  terms.delta_BHT = d_out.mul(result.out_BTHE).sum(-1).transpose(1, 2).contiguous();
  terms.lse_BHT = lse_BHT;
  if (inputs.sinks_H.defined()) {
    const at::Tensor sinks_H11 = inputs.sinks_H.to(at::kFloat).view({-1, 1});
    terms.lse_BHT = at::logaddexp(lse_BHT, sinks_H11).contiguous();
    terms.d_sinks_H = at::exp(sinks_H11.sub(terms.lse_BHT)).mul(terms.delta_BHT).sum({0, 2}).neg();
  }
  if (d_lse_BHT.defined()) {
    const at::Tensor share = d_lse_BHT.mul(at::exp(terms.lse_BHT.sub(lse_BHT)));
    const at::Tensor empty = lse_BHT.isinf();
    terms.delta_BHT = terms.delta_BHT.sub(share.masked_fill(empty, 0)).contiguous();
  }
  return terms;
}

// Buffers of one thread, for one slab of a tile and one block of keys.
struct Buffers {
  Buffers(const FlexProblem& problem, const BackwardProducts& products, int64_t qk_width,
          int64_t v_width)
      : scratch(products.scratch()),
        scores(kSlabRows * problem.block_cols()),
        d_scores(scores.size()),
        slopes(problem.has_soft_cap() ? scores.size() : 0),
        d_k(problem.block_cols() * qk_width),
        d_v(problem.block_cols() * v_width) {}

  ProductScratch scratch;
  std::vector<float> scores;
  std::vector<float> d_scores;
  std::vector<float> slopes;
  std::vector<float> d_k;
  std::vector<float> d_v;
};

class BackwardPass {
 public:
  BackwardPass(const FlexInputs& inputs, const BlockMask& mask, const ForwardResult& result,
               const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT, bool wants_d_bias,
               const TileKernels& kernels)
      : inputs_(inputs),
        problem_(inputs, mask, kernels),
        plan_(backward_plan(mask, problem_.areas(), problem_.batch(), problem_.heads(),
                            problem_.kv_heads())),
        products_(backward_products(inputs, d_out_BTHE, mask, kernels)),
        terms_(row_terms(inputs, result, d_out_BTHE, d_lse_BHT)),
        qk_dim_(inputs.q_BTHD.size(3)),
        v_dim_(inputs.v_BSKE.size(3)),
        d_q_({.num_chunks = plan_.num_chunks,
              .batch = problem_.batch(),
              .heads = problem_.heads(),
              .kv_heads = problem_.kv_heads(),
              .q_len = problem_.q_len(),
              .dim = qk_dim_}) {
    gradients_.d_k_BSKD = at::empty(inputs.k_BSKD.sizes(), at::kFloat);
    gradients_.d_v_BSKE = at::empty(inputs.v_BSKE.sizes(), at::kFloat);
    gradients_.d_sinks_H = terms_.d_sinks_H;
    if (wants_d_bias) gradients_.d_bias_BHTS = at::zeros(inputs.bias_BHTS.sizes(), at::kFloat);
  }

  BackwardResult run() {
    const std::vector<std::vector<size_t>> lanes = lanes_of_units();
    run_units(
        lanes.size(),
        [&] { return Buffers(problem_, *products_, padded(qk_dim_), padded(v_dim_)); },
        [&](size_t lane, Buffers& buffers) {
          for (const size_t unit : lanes[lane]) run_unit(plan_.units[unit], buffers);
        });
    gradients_.d_q_BTHD = d_q_.sum(inputs_.scale);
    return gradients_;
  }

 private:
  // Units that run one after another because they add to the same entries of the bias's gradient;
  // without that gradient every unit is a lane of its own.
  std::vector<std::vector<size_t>> lanes_of_units() const {
    const at::Tensor& d_bias = gradients_.d_bias_BHTS;
    std::map<std::tuple<int32_t, int32_t, int32_t>, std::vector<size_t>> lanes;
    for (size_t i = 0; i < plan_.units.size(); ++i) {
      const WorkUnit& unit = plan_.units[i];
      const auto own = [&](int64_t dim, int32_t index) {
        return !d_bias.defined() || d_bias.size(dim) > 1 ? index : 0;
      };
      lanes[{own(0, unit.b), own(1, unit.h), own(3, unit.chunk)}].push_back(i);
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

  // The queries that meet a unit's keys, from the first to the last.
  TokenRange queries_of(const WorkUnit& unit) const {
    const int64_t group = problem_.heads() / problem_.kv_heads();
    int64_t first = problem_.mask().data().num_q_blocks();
    int64_t last = 0;
    for (int64_t h = unit.h * group; h < (unit.h + 1) * group; ++h) {
      for (int64_t kv_block = unit.begin; kv_block < unit.end; ++kv_block) {
        for (const BlockRun& run : problem_.mask().q_runs(unit.b, h, kv_block)) {
          first = std::min<int64_t>(first, run.begin);
          last = std::max<int64_t>(last, run.end);
        }
      }
    }
    if (first >= last) return {0, 0};
    const int64_t block = problem_.mask().shape().block.q;
    return {first * block, std::min(last * block, problem_.q_len())};
  }

  void run_unit(const WorkUnit& unit, Buffers& buffers) {
    d_q_.begin(unit, queries_of(unit));
    const int64_t group = problem_.heads() / problem_.kv_heads();
    for (int64_t kv_block = unit.begin; kv_block < unit.end; ++kv_block) {
      std::fill(buffers.d_k.begin(), buffers.d_k.end(), 0.0F);
      std::fill(buffers.d_v.begin(), buffers.d_v.end(), 0.0F);
      TilePart part{.b = unit.b, .kv_block = kv_block};
      for (part.h = unit.h * group; part.h < (unit.h + 1) * group; ++part.h) {
        for (const BlockRun& run : problem_.mask().q_runs(part.b, part.h, kv_block)) {
          for (part.q_block = run.begin; part.q_block < run.end; ++part.q_block) {
            problem_.for_each_slab(
                part, run, [&](const TileSlab& slab) { add_slab(slab, unit.chunk, buffers); });
          }
        }
      }
      write_keys(unit, kv_block, buffers);
    }
  }

  void add_slab(const TileSlab& slab, int32_t chunk, Buffers& buffers) {
    const auto p = [&](const TilePart& part) {
      return problem_.tile_of(part, buffers.scores.data());
    };
    const auto d_s = [&](const TilePart& part) {
      return problem_.tile_of(part, buffers.d_scores.data());
    };
    problem_.scores(*products_, slab, buffers.scores.data(), buffers.slopes.data());
    slab.by_rows([&](const TilePart& part) {
      problem_.kernels().probabilities(p(part), rows_of(part, terms_.lse_BHT));
    });
    problem_.clear_gaps(slab, buffers.d_scores.data());
    slab.by_columns([&](const TilePart& part) {
      products_->add_d_values(part, p(part), buffers.d_v.data(), buffers.scratch);
      products_->d_probabilities(part, d_s(part));
    });
    slab.by_rows([&](const TilePart& part) {
      finish_d_scores(part, p(part), d_s(part), buffers);
      float* d_q = d_q_.at(chunk, part.b, part.h, problem_.first_query(part));
      products_->add_d_queries(part, d_s(part), d_q, buffers.scratch);
    });
    slab.by_columns([&](const TilePart& part) {
      products_->add_d_keys(part, d_s(part), buffers.d_k.data(), buffers.scratch);
    });
  }

  // Of a part's rows, in a [B, H, T] tensor.
  const float* rows_of(const TilePart& part, const at::Tensor& terms_BHT) const {
    return terms_BHT.const_data_ptr<float>() +
           (part.b * problem_.heads() + part.h) * problem_.q_len() + problem_.first_query(part);
  }

  // Turns the gradient of the probabilities into that of the products q k^T.
  void finish_d_scores(const TilePart& part, const ScoreTile& p, const ScoreTile& d_s,
                       const Buffers& buffers) {
    const TileKernels& kernels = problem_.kernels();
    kernels.score_gradients(p, d_s.scores, rows_of(part, terms_.delta_BHT));
    if (gradients_.d_bias_BHTS.defined()) add_d_bias(part, d_s);
    if (problem_.has_soft_cap()) {
      const float* slopes = buffers.slopes.data() + (p.scores - buffers.scores.data());
      kernels.multiply_elements(d_s.scores, slopes, p.ld, p.rows, p.cols);
    }
  }

  void add_d_bias(const TilePart& part, const ScoreTile& d_s) {
    auto* d_bias = gradients_.d_bias_BHTS.mutable_data_ptr<float>();
    const int64_t q = problem_.first_query(part);
    const int64_t kv = problem_.first_key(part);
    for (int i = 0; i < d_s.rows; ++i) {
      for (int j = 0; j < d_s.live_cols; ++j) {
        d_bias[problem_.bias_index(part.b, part.h, q + i, kv + j)] += d_s.scores[i * d_s.ld + j];
      }
    }
  }

  void write_keys(const WorkUnit& unit, int64_t kv_block, const Buffers& buffers) {
    const MaskShape& shape = problem_.mask().shape();
    const TokenRange keys = block_tokens(kv_block, shape.block.kv, shape.kv_len);
    const auto scale = static_cast<float>(inputs_.scale);
    const auto write = [&](const std::vector<float>& from, KeyLayout layout, float factor,
                           const at::Tensor& to) {
      const int64_t dim = to.size(3);
      for (int64_t kv = keys.begin; kv < keys.end; ++kv) {
        const float* row = from.data() + (kv - keys.begin) * layout.key_stride;
        float* out = to.mutable_data_ptr<float>() +
                     ((unit.b * problem_.kv_len() + kv) * problem_.kv_heads() + unit.h) * dim;
        for (int64_t d = 0; d < dim; ++d) out[d] = row[d * layout.dim_stride] * factor;
      }
    };
    write(buffers.d_k, products_->d_k_layout(), scale, gradients_.d_k_BSKD);
    write(buffers.d_v, products_->d_v_layout(), 1.0F, gradients_.d_v_BSKE);
  }

  const FlexInputs& inputs_;
  FlexProblem problem_;
  BackwardPlan plan_;
  std::unique_ptr<BackwardProducts> products_;
  RowTerms terms_;
  int64_t qk_dim_;
  int64_t v_dim_;
  QuerySums d_q_;
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
