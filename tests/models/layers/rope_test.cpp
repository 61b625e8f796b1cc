#include "models/layers/rope.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/view_as_real.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/models/gradient_check.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;

Tensor positions(std::vector<int64_t> values) { return at::tensor(values).unsqueeze(0); }

// Written down from torchtitan 0.2.2's precompute_freqs_cis(dim, end, 500000, RoPEScalingArgs()),
// torch 2.13.0 CPU.
struct TitanCase {
  int64_t head_dim, position, pair;
  double cos, sin;
};
constexpr TitanCase kTitan[] = {
    {16, 1, 0, 0.540302277, 0.841470957},
    {16, 1, 3, 0.999973416, 0.00729260035},
    {16, 1, 5, 1, 3.42810235e-05},
    {16, 1, 7, 1, 1.28917316e-06},
    {16, 700, 0, -0.839104354, 0.543970525},
    {16, 700, 3, 0.38247785, -0.923964679},
    {16, 700, 5, 0.99971211, 0.0239944141},
    {16, 700, 7, 0.999999583, 0.000902421074},
    {16, 2047, 0, 0.249715254, -0.968319297},
    {16, 2047, 3, -0.71099937, 0.703192651},
    {16, 2047, 5, 0.997538865, 0.070115678},
    {16, 2047, 7, 0.999996543, 0.00263893441},
    {128, 1, 1, 0.686146915, 0.727463007},
    {128, 1, 32, 0.999999881, 0.000524846022},
    {128, 1, 40, 1, 3.42810235e-05},
    {128, 1, 63, 1, 3.06892588e-07},
    {128, 5000, 1, -0.0113060204, 0.999936104},
    {128, 5000, 32, -0.869126678, 0.494589537},
    {128, 5000, 40, 0.985346079, 0.170567051},
    {128, 5000, 63, 0.999998808, 0.00153446232},
};

TEST(RopeTable, IsTorchTitansToTheLastBits) {
  for (const TitanCase& c : kTitan) {
    const RopeTable table =
        rope_table(positions({c.position}), c.head_dim, 500000.0, RopeScaling{});
    const Tensor cis = at::view_as_real(table.cis_BTP[0][0][c.pair]);
    EXPECT_FLOAT_EQ(cis[0].item<float>(), static_cast<float>(c.cos)) << c.position << " " << c.pair;
    EXPECT_FLOAT_EQ(cis[1].item<float>(), static_cast<float>(c.sin)) << c.position << " " << c.pair;
  }
}

// The three regions of Llama 3.1's formula, written out for one number.
double scaled_frequency(double f, const RopeScaling& scaling) {
  const double w = 2 * M_PI / f;
  const auto n = static_cast<double>(scaling.original_max_position_embeddings);
  if (w < n / scaling.high_freq_factor) return f;
  if (w > n / scaling.low_freq_factor) return f / scaling.factor;
  const double s =
      (n / w - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - s) * f / scaling.factor + s * f;
}

TEST(RopeTable, ScalesFrequenciesInThreeRegions) {
  const RopeScaling scaling{.factor = 32, .original_max_position_embeddings = 1024};
  const RopeTable scaled = rope_table(positions({1}), 128, 10000.0, scaling, at::kDouble);
  const RopeTable plain = rope_table(positions({1}), 128, 10000.0, std::nullopt, at::kDouble);
  int kept = 0, divided = 0, between = 0;
  for (int64_t i = 0; i < 64; ++i) {
    const double f = std::pow(10000.0, -2.0 * static_cast<double>(i) / 128);
    const double want = scaled_frequency(f, scaling);
    EXPECT_NEAR(plain.cis_BTP[0][0][i].angle().item<double>(), f, 1e-15);
    EXPECT_NEAR(scaled.cis_BTP[0][0][i].angle().item<double>(), want, 1e-15);
    kept += want == f;
    divided += want == f / scaling.factor;
    between += want < f && want > f / scaling.factor;
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(divided, 0);
  EXPECT_GT(between, 0);
}

TEST(RopeTable, FollowsThePositionsOfTheBatch) {
  const RopeTable table = rope_table(positions({0, 1, 2, 0, 1}), 8, 10000.0, std::nullopt);
  EXPECT_EQ(table.cis_BTP.sizes(), (std::vector<int64_t>{1, 5, 4}));
  EXPECT_EQ(table.cis_BTP.scalar_type(), at::kComplexFloat);
  EXPECT_TRUE(at::equal(table.cis_BTP[0][1], table.cis_BTP[0][4]));
  EXPECT_TRUE(
      at::equal(table.cis_BTP[0][0], at::tensor(std::vector<float>(4, 1)).to(at::kComplexFloat)));
}

TEST(ApplyRope, TurnsAdjacentPairs) {
  const RopeTable table = rope_table(positions({3}), 4, 100.0, std::nullopt, at::kDouble);
  const Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 1, 1, 4});
  const Tensor y = apply_rope(x, table).view(-1);
  const double a = 3.0, b = 0.3;  // position * 100^0 and position * 100^(-1/2)
  EXPECT_NEAR(y[0].item<double>(), std::cos(a) - 2 * std::sin(a), 1e-14);
  EXPECT_NEAR(y[1].item<double>(), std::sin(a) + 2 * std::cos(a), 1e-14);
  EXPECT_NEAR(y[2].item<double>(), 3 * std::cos(b) - 4 * std::sin(b), 1e-14);
  EXPECT_NEAR(y[3].item<double>(), 3 * std::sin(b) + 4 * std::cos(b), 1e-14);
}

TEST(ApplyRope, ScoresDependOnDistanceOnly) {
  const Tensor q = at::randn({1, 1, 2, 8}, at::kDouble), k = at::randn({1, 1, 2, 8}, at::kDouble);
  const auto score = [&](int64_t m, int64_t n) {
    const auto turn = [](const Tensor& x, int64_t p) {
      return apply_rope(x, rope_table(positions({p}), 8, 10000.0, RopeScaling{}, at::kDouble));
    };
    return (turn(q, m) * turn(k, n)).sum().item<double>();
  };
  for (const int64_t shift : {1, 17, 300})
    EXPECT_NEAR(score(9, 4), score(9 + shift, 4 + shift), 1e-12);
}

TEST(ApplyRope, Gradient) {
  at::manual_seed(6);
  const RopeTable table = rope_table(positions({2, 0, 5}), 6, 50.0, std::nullopt, at::kDouble);
  testing::expect_gradients(
      [&table](const std::vector<Tensor>& in) { return apply_rope(in[0], table); },
      {at::randn({1, 3, 2, 6}, at::kDouble)});
}

TEST(ApplyRope, HalfTypesTurnInFloat32) {
  const RopeTable table = rope_table(positions({2, 900}), 16, 500000.0, RopeScaling{});
  const Tensor x = at::randn({1, 2, 3, 16}).to(at::kBFloat16);
  const Tensor y = apply_rope(x, table);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(y, apply_rope(x.to(at::kFloat), table).to(at::kBFloat16)));
}

TEST(RopeTable, Errors) {
  EXPECT_ERROR(rope_table(at::arange(4), 8, 1e4, std::nullopt), "[4]", "expected integers [B, T]");
  EXPECT_ERROR(rope_table(at::randn({1, 4}), 8, 1e4, std::nullopt), "Float", "integers [B, T]");
  EXPECT_ERROR(rope_table(Tensor(), 8, 1e4, std::nullopt), "expected integers [B, T]");
  EXPECT_ERROR(rope_table(positions({1}), 7, 1e4, std::nullopt), "head_dim is 7", "even");
  EXPECT_ERROR(rope_table(positions({1}), 8, 1e4, std::nullopt, at::kHalf), "Half",
               "Float or Double");
}

}  // namespace
}  // namespace tessera
