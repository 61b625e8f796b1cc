#include "parallel/pipeline/weight_gradients.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "parallel/segment.h"

namespace tessera::pipeline {
namespace {

using at::Tensor;

// Two projections with a nonlinearity between them, and the same without a split.
struct TwoLayers {
  Tensor w1 = at::randn({5, 3}, at::kDouble).set_requires_grad(true);
  Tensor w2 = at::randn({4, 5}, at::kDouble).set_requires_grad(true);
  Tensor x = at::randn({2, 6, 3}, at::kDouble).set_requires_grad(true);
  Tensor dy = at::randn({2, 6, 4}, at::kDouble);
  Block block{.name = "block"};

  Tensor forward(WeightGradients& deferred) {
    return run_segment(block, x, [this, &deferred](const Tensor& input) {
      return deferred.linear(at::tanh(deferred.linear(input, w1)), w2);
    });
  }

  std::vector<Tensor> expected() {
    const Tensor y = at::linear(at::tanh(at::linear(x, w1)), w2);
    return torch::autograd::grad({y}, {x, w1, w2}, {dy});
  }
};

void expect_close(const Tensor& got, const Tensor& expected) {
  ASSERT_TRUE(got.defined());
  EXPECT_TRUE(at::allclose(got, expected, 1e-13, 1e-13));
}

class WeightGradientsTest : public ::testing::TestWithParam<bool> {};

TEST_P(WeightGradientsTest, InputGradientComesFirstThenTheWeights) {
  TwoLayers layers;
  layers.block.recompute = GetParam();
  const std::vector<Tensor> expected = layers.expected();
  WeightGradients deferred;
  const Tensor y = layers.forward(deferred);
  {
    const auto deferring = deferred.defer(7);
    torch::autograd::backward({y}, {layers.dy});
  }
  expect_close(layers.x.grad(), expected[0]);
  EXPECT_FALSE(layers.w1.grad().defined());
  EXPECT_FALSE(layers.w2.grad().defined());
  EXPECT_EQ(deferred.num_deferred(), 2);

  deferred.add(6);  // another microbatch has nothing
  EXPECT_EQ(deferred.num_deferred(), 2);
  deferred.add(7);
  EXPECT_EQ(deferred.num_deferred(), 0);
  expect_close(layers.w1.grad(), expected[1]);
  expect_close(layers.w2.grad(), expected[2]);

  deferred.add(7);  // once only
  expect_close(layers.w1.grad(), expected[1]);
}

TEST_P(WeightGradientsTest, BackwardOutsideOfDeferAddsAtOnce) {
  TwoLayers layers;
  layers.block.recompute = GetParam();
  const std::vector<Tensor> expected = layers.expected();
  WeightGradients deferred;
  torch::autograd::backward({layers.forward(deferred)}, {layers.dy});
  EXPECT_EQ(deferred.num_deferred(), 0);
  expect_close(layers.w1.grad(), expected[1]);
  expect_close(layers.w2.grad(), expected[2]);
}

INSTANTIATE_TEST_SUITE_P(Recompute, WeightGradientsTest, ::testing::Bool());

TEST(WeightGradients, AddsInTheTypeOfTheGradient) {
  const Tensor weight = at::ones({2, 3}, at::kBFloat16).set_requires_grad(true);
  weight.mutable_grad() = at::full({2, 3}, 0.125, at::kFloat);
  const Tensor x = at::ones({4, 3}, at::kBFloat16).set_requires_grad(true);
  WeightGradients deferred;
  const Tensor y = deferred.linear(x, weight);
  {
    const auto deferring = deferred.defer(0);
    torch::autograd::backward({y}, {at::ones_like(y)});
  }
  deferred.add(0);
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(weight.grad().equal(at::full({2, 3}, 4.125, at::kFloat)));
}

TEST(WeightGradients, FrozenWeightsAreLeftAlone) {
  const Tensor weight = at::ones({2, 3});
  const Tensor x = at::ones({4, 3}).set_requires_grad(true);
  WeightGradients deferred;
  const Tensor y = deferred.linear(x, weight);
  {
    const auto deferring = deferred.defer(0);
    torch::autograd::backward({y}, {at::ones_like(y)});
  }
  EXPECT_EQ(deferred.num_deferred(), 0);
  EXPECT_TRUE(x.grad().equal(at::full({4, 3}, 2.0)));
}

// The product's input and the gradient of its output wait for W, not the graph before it.
TEST(WeightGradients, KeepsNoGraphAlive) {
  const Tensor weight = at::ones({2, 3}).set_requires_grad(true);
  Tensor x = at::ones({4, 3}).set_requires_grad(true);
  Tensor square = x * x;  // keeps x
  WeightGradients deferred;
  {
    const Tensor y = deferred.linear(square, weight);
    const auto deferring = deferred.defer(0);
    torch::autograd::backward({y}, {at::ones_like(y)}, /*retain_graph=*/true);
  }
  const c10::weak_intrusive_ptr<at::TensorImpl> watched(x.getIntrusivePtr());
  square.reset();
  x.reset();
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(deferred.num_deferred(), 1);
  deferred.drop();
  EXPECT_EQ(deferred.num_deferred(), 0);
}

}  // namespace
}  // namespace tessera::pipeline
