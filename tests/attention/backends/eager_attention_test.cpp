#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/masks/reference_masks.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/support/gradcheck.h"
#include "tests/support/numbers.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::AttentionSizes;
using testing::backend;
using testing::expect_close;
using testing::expect_gradients;
using testing::expect_zero_and_finite;
using testing::kInfinity;
using testing::leaf;
using testing::random_inputs;

// The formulas of attention.h as loops over scalars, for one row of queries.
struct ScalarRow {
  std::vector<double> out;
  double lse = -kInfinity;
};

ScalarRow scalar_attention(const AttentionInputs& in, const BlockMask& mask,
                           const AttentionOptions& options, int64_t b, int64_t t, int64_t h) {
  const int64_t head_dim = in.q_BTHD.size(3);
  const int64_t kv_head = h / (in.q_BTHD.size(2) / in.k_BSKD.size(2));
  const double scale = options.scale.value_or(1.0 / std::sqrt(head_dim));
  std::vector<std::pair<int64_t, double>> scores;
  for (int64_t s = 0; s < in.k_BSKD.size(1); ++s) {
    if (!mask.allows(b, h, t, s)) continue;
    double score = 0;
    for (int64_t d = 0; d < head_dim; ++d) {
      score += in.q_BTHD[b][t][h][d].item<double>() * in.k_BSKD[b][s][kv_head][d].item<double>();
    }
    score *= scale;
    if (options.soft_cap) score = *options.soft_cap * std::tanh(score / *options.soft_cap);
    if (options.bias_BHTS.defined()) score += options.bias_BHTS[b][h][t][s].item<double>();
    if (options.alibi_slopes_H.defined()) {
      score += options.alibi_slopes_H[h].item<double>() * static_cast<double>(s - t);
    }
    scores.emplace_back(s, score);
  }
  ScalarRow row;
  row.out.assign(in.v_BSKE.size(3), 0.0);
  if (scores.empty()) return row;
  double sum = 0;
  for (const auto& [s, score] : scores) sum += std::exp(score);
  row.lse = std::log(sum);
  if (options.sinks_H.defined()) sum += std::exp(options.sinks_H[h].item<double>());
  for (const auto& [s, score] : scores) {
    for (size_t e = 0; e < row.out.size(); ++e) {
      row.out[e] += std::exp(score) / sum * in.v_BSKE[b][s][kv_head][e].item<double>();
    }
  }
  return row;
}

TEST(EagerAttentionTest, EqualsTheFormulasAsLoops) {
  const AttentionSizes sizes{.q_len = 5, .kv_len = 6, .head_dim = 3, .value_dim = 2};
  const AttentionInputs in = random_inputs(sizes, at::kDouble);
  const BlockMask mask =
      create_block_mask(causal() & document(at::tensor(std::vector<int64_t>{0, 0, 1, 1, 1, 2})),
                        {.q_len = 5, .kv_len = 6});
  AttentionOptions options{.scale = 0.7,
                           .soft_cap = 1.5,
                           .sinks_H = at::randn({4}, at::kDouble),
                           .bias_BHTS = at::randn({2, 4, 5, 6}, at::kDouble),
                           .alibi_slopes_H = at::rand({4}, at::kDouble)};
  options.return_lse = true;
  const AttentionOutput output = backend("eager")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask, options);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 5; ++t) {
      for (int64_t h = 0; h < 4; ++h) {
        const ScalarRow row = scalar_attention(in, mask, options, b, t, h);
        EXPECT_NEAR(output.lse_BHT[b][h][t].item<double>(), row.lse, 1e-13);
        for (int64_t e = 0; e < 2; ++e) {
          EXPECT_NEAR(output.out_BTHE[b][t][h][e].item<double>(), row.out[e], 1e-13);
        }
      }
    }
  }
}

// Gradients of out and lse together, for every option alone and all at once, on a mask with an
// empty row.
class EagerGradientTest : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 4;

  EagerGradientTest() {
    const at::Tensor allowed = at::rand({2, 4, kTokens, kTokens}) < 0.6;
    allowed.select(2, 1).fill_(false);
    mask_ = std::make_unique<BlockMask>(testing::block_mask_from_dense(allowed, {.q = 3, .kv = 2}));
  }

  void check(AttentionOptions options, std::vector<at::Tensor> option_leaves) {
    options.return_lse = true;
    options.return_weights = true;
    const at::Tensor d_lse = at::randn({2, 4, kTokens}, at::kDouble);
    const at::Tensor d_weights = at::randn({2, 4, kTokens, kTokens}, at::kDouble);
    std::vector<at::Tensor> leaves{in_.q_BTHD, in_.k_BSKD, in_.v_BSKE};
    leaves.insert(leaves.end(), option_leaves.begin(), option_leaves.end());
    const auto loss = [&](const std::vector<at::Tensor>& x) {
      const AttentionOutput output = backend("eager")(x[0], x[1], x[2], *mask_, options);
      const at::Tensor lse = output.lse_BHT.masked_fill(output.lse_BHT.isinf(), 0.0);
      return (output.out_BTHE * in_.d_out_BTHE).sum() + (lse * d_lse).sum() +
             (output.weights_BHTS * d_weights).sum();
    };
    expect_gradients(loss, leaves);
  }

  AttentionInputs in_ = random_inputs(
      {.q_len = kTokens, .kv_len = kTokens, .head_dim = 3, .value_dim = 2}, at::kDouble);
  std::unique_ptr<BlockMask> mask_;
  at::Tensor sinks_ = leaf(at::randn({4}, at::kDouble));
  at::Tensor bias_ = leaf(at::randn({2, 4, kTokens, kTokens}, at::kDouble));
  at::Tensor shared_bias_ = leaf(at::randn({1, 4, 1, kTokens}, at::kDouble));
  at::Tensor slopes_ = leaf(at::rand({4}, at::kDouble));
};

TEST_F(EagerGradientTest, Plain) { check({}, {}); }
TEST_F(EagerGradientTest, Scale) { check({.scale = 1.3}, {}); }
TEST_F(EagerGradientTest, SoftCap) { check({.soft_cap = 1.2}, {}); }
TEST_F(EagerGradientTest, Sinks) { check({.sinks_H = sinks_}, {sinks_}); }
TEST_F(EagerGradientTest, Bias) { check({.bias_BHTS = bias_}, {bias_}); }
TEST_F(EagerGradientTest, BroadcastBias) { check({.bias_BHTS = shared_bias_}, {shared_bias_}); }
TEST_F(EagerGradientTest, Alibi) { check({.alibi_slopes_H = slopes_}, {slopes_}); }
TEST_F(EagerGradientTest, AllOptions) {
  check({.scale = 0.8,
         .soft_cap = 2.0,
         .sinks_H = sinks_,
         .bias_BHTS = bias_,
         .alibi_slopes_H = slopes_},
        {sinks_, bias_, slopes_});
}

TEST(EagerAttentionTest, EmptyRowsAreZeroWithExactlyZeroGradients) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const AttentionInputs in = random_inputs({}, dtype);
    const BlockMask mask = create_block_mask(none(), {.q_len = 10, .kv_len = 10});
    AttentionOptions options{.soft_cap = 5.0,
                             .sinks_H = leaf(at::randn({4})),
                             .bias_BHTS = leaf(at::randn({1, 4, 10, 10})),
                             .alibi_slopes_H = leaf(at::rand({4}))};
    options.return_lse = true;
    const AttentionOutput output = backend("eager")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask, options);
    EXPECT_TRUE((output.lse_BHT == -kInfinity).all().item<bool>());
    EXPECT_EQ(output.lse_BHT.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    expect_zero_and_finite(output.out_BTHE, "out");
    // A gradient that arrives at the lse of an empty row goes nowhere.
    ((output.out_BTHE * in.d_out_BTHE).sum() + output.lse_BHT.sum()).backward();
    expect_zero_and_finite(in.q_BTHD.grad(), "dq");
    expect_zero_and_finite(in.k_BSKD.grad(), "dk");
    expect_zero_and_finite(in.v_BSKE.grad(), "dv");
    expect_zero_and_finite(options.sinks_H.grad(), "dsinks");
    expect_zero_and_finite(options.bias_BHTS.grad(), "dbias");
    expect_zero_and_finite(options.alibi_slopes_H.grad(), "dslopes");
  }
}

TEST(EagerAttentionTest, WeightsSumToOneWithoutSinks) {
  const AttentionInputs in = random_inputs({}, at::kDouble);
  const BlockMask mask = create_block_mask(causal(), {.q_len = 10, .kv_len = 10});
  AttentionOptions options;
  options.return_weights = true;
  const auto run = [&] {
    return backend("eager")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask, options).weights_BHTS;
  };
  expect_close(run().sum(3), at::full({2, 4, 10}, 1.0, at::kDouble), 1e-14, 0, "sums");
  expect_zero_and_finite(run().masked_fill(mask.to_dense(), 0.0), "masked weights");
  options.sinks_H = at::zeros({4}, at::kDouble);
  EXPECT_TRUE((run().sum(3) < 1).all().item<bool>());
}

// Float16 inputs whose scores overflow float16: arithmetic is float32.
TEST(EagerAttentionTest, HalfTypesAreComputedInFloat32) {
  const at::Tensor q = at::full({1, 2, 1, 4}, 200.0, at::kHalf);
  const BlockMask mask = create_block_mask(causal(), {.q_len = 2, .kv_len = 2});
  AttentionOptions options{.scale = 1.0};
  options.return_lse = true;
  const AttentionOutput output = backend("eager")(q, q, q, mask, options);
  EXPECT_TRUE(output.out_BTHE.equal(q));
  EXPECT_FLOAT_EQ(output.lse_BHT[0][0][0].item<float>(), 160000.0F);
}

}  // namespace
}  // namespace tessera
