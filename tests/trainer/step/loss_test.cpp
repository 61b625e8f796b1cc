#include "trainer/step/loss.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "data/batch.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

struct LossCase {
  at::Tensor hidden_BTD, weight_VD, labels_BT;
};

LossCase random_case(at::ScalarType dtype, int64_t batch, int64_t tokens, int64_t dim,
                     int64_t vocab) {
  at::manual_seed(3);
  LossCase c;
  c.hidden_BTD = at::randn({batch, tokens, dim}, at::kDouble).to(dtype).set_requires_grad(true);
  c.weight_VD = at::randn({vocab, dim}, at::kDouble).to(dtype).set_requires_grad(true);
  c.labels_BT = at::randint(vocab, {batch, tokens}, at::kLong);
  c.labels_BT.select(1, 0).fill_(kIgnoreLabel);
  return c;
}

// The slow, obvious way: whole logits, LibTorch's own cross entropy.
at::Tensor reference(const LossCase& c) {
  const at::Tensor logits = c.hidden_BTD.matmul(c.weight_VD.t()).flatten(0, 1);
  return at::cross_entropy_loss(logits, c.labels_BT.flatten(), {}, at::Reduction::Sum,
                                kIgnoreLabel);
}

struct Gradients {
  at::Tensor hidden, weight;
};

Gradients gradients_of(const at::Tensor& loss, const LossCase& c, double upstream) {
  const auto grads = torch::autograd::grad({loss}, {c.hidden_BTD, c.weight_VD},
                                           {at::full({}, upstream, loss.options())});
  return {grads[0], grads[1]};
}

TEST(LossTest, EqualsWholeLogitsForEveryChunkSize) {
  const LossCase c = random_case(at::kDouble, 3, 7, 5, 11);
  const at::Tensor expected = reference(c);
  const Gradients expected_gradients = gradients_of(expected, c, 0.25);
  for (const int64_t chunk : {1, 2, 4, 7, 20, 21, 22, 1000}) {
    const at::Tensor loss = cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, chunk);
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-12 * 21) << "chunk " << chunk;
    const Gradients got = gradients_of(loss, c, 0.25);
    EXPECT_TRUE(got.hidden.allclose(expected_gradients.hidden, 0, 1e-13)) << "chunk " << chunk;
    EXPECT_TRUE(got.weight.allclose(expected_gradients.weight, 0, 1e-12)) << "chunk " << chunk;
  }
}

TEST(LossTest, GradientsEqualFiniteDifferences) {
  const LossCase c = random_case(at::kDouble, 2, 3, 4, 5);
  const Gradients got =
      gradients_of(cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 2), c, 1.0);
  const at::NoGradGuard no_grad;
  constexpr double kStep = 1e-5;
  const auto check = [&](const at::Tensor& input, const at::Tensor& gradient) {
    at::Tensor flat = input.view({-1});
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double x = flat[i].item<double>();
      flat[i] = x + kStep;
      const double up = cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 2).item<double>();
      flat[i] = x - kStep;
      const double down =
          cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 2).item<double>();
      flat[i] = x;
      EXPECT_NEAR(gradient.view({-1})[i].item<double>(), (up - down) / (2 * kStep), 1e-8)
          << "element " << i;
    }
  };
  check(c.hidden_BTD.detach(), got.hidden);
  check(c.weight_VD.detach(), got.weight);
}

TEST(LossTest, HalfTypesSumInFloat32) {
  const LossCase c = random_case(at::kBFloat16, 2, 64, 16, 32);
  const at::Tensor loss = cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 16);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  LossCase exact;
  exact.hidden_BTD = c.hidden_BTD.detach().to(at::kDouble);
  exact.weight_VD = c.weight_VD.detach().to(at::kDouble);
  exact.labels_BT = c.labels_BT;
  // Only the logits are rounded to bfloat16: 2^-9 of a logit of size |h||w| ~ 16, averaged over 126
  // tokens.
  EXPECT_NEAR(loss.item<double>(), reference(exact).item<double>(), 126 * 16.0 / 512);
}

TEST(LossTest, IgnoredLabelsAddNothing) {
  LossCase c = random_case(at::kDouble, 1, 4, 3, 6);
  c.labels_BT.fill_(kIgnoreLabel);
  const at::Tensor loss = cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 3);
  EXPECT_EQ(loss.item<double>(), 0.0);
  const Gradients got = gradients_of(loss, c, 1.0);
  EXPECT_EQ(got.hidden.abs().max().item<double>(), 0.0);
  EXPECT_EQ(got.weight.abs().max().item<double>(), 0.0);
}

TEST(LossTest, NoGradientsWithoutGradMode) {
  const LossCase c = random_case(at::kDouble, 1, 4, 3, 6);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 3).requires_grad());
}

// A second backward pass finds gradients that the first has scaled in place.
TEST(LossTest, RefusesASecondBackwardPass) {
  const LossCase c = random_case(at::kDouble, 1, 4, 3, 5);
  const at::Tensor loss = cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 4);
  const auto backward = [&] {
    return torch::autograd::grad({loss}, {c.weight_VD}, {at::full({}, 0.5, loss.options())},
                                 /*retain_graph=*/true);
  };
  backward();
  EXPECT_ERROR(backward(), "modified by an inplace operation");
}

TEST(LossTest, ChunksHoldAMillionLogitsOr256Tokens) {
  EXPECT_EQ(loss_chunk_tokens(2048), 512);
  EXPECT_EQ(loss_chunk_tokens(128256), 256);
}

TEST(LossTest, BadInputs) {
  const LossCase c = random_case(at::kDouble, 2, 3, 4, 5);
  EXPECT_ERROR(cross_entropy_sum(c.hidden_BTD, at::zeros({5, 3}, at::kDouble), c.labels_BT, 4),
               "[2, 3, 4]", "[5, 3]");
  EXPECT_ERROR(cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT.to(at::kInt), 4), "Int",
               "expected Long");
  EXPECT_ERROR(cross_entropy_sum(c.hidden_BTD, c.weight_VD, at::zeros({2, 4}, at::kLong), 4),
               "[2, 4]", "[2, 3]");
  EXPECT_ERROR(cross_entropy_sum(c.hidden_BTD, c.weight_VD, at::full({2, 3}, 5, at::kLong), 4),
               "label 5", "0 to 4");
  EXPECT_ERROR(cross_entropy_sum(c.hidden_BTD, c.weight_VD, c.labels_BT, 0), "chunk_tokens is 0");
}

}  // namespace
}  // namespace tessera
