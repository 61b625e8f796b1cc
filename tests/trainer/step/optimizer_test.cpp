#include "trainer/step/optimizer.h"

#include <ATen/Context.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/errors.h"

namespace tessera {
namespace {

// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2, in plain tensor
// arithmetic.
struct ReferenceAdamW {
  AdamWOptions o;
  at::Tensor p, m, v;
  int64_t t = 0;

  void step(const at::Tensor& g, double lr) {
    ++t;
    p = p.mul(1 - lr * o.weight_decay);
    m = m.mul(o.beta1).add(g, 1 - o.beta1);
    v = v.mul(o.beta2).add(g.mul(g), 1 - o.beta2);
    const at::Tensor m_hat = m.div(1 - std::pow(o.beta1, t));
    const at::Tensor v_hat = v.div(1 - std::pow(o.beta2, t));
    p = p.sub(m_hat.div(v_hat.sqrt().add(o.eps)), lr);
  }
};

TEST(OptimizerTest, FollowsThePaperInFloat64) {
  at::manual_seed(5);
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.97, .eps = 1e-7, .weight_decay = 0.3};
  at::Tensor p = at::randn({137}, at::kDouble);
  at::Tensor g = at::zeros({137}, at::kDouble);
  ReferenceAdamW reference{options, p.clone(), at::zeros_like(p), at::zeros_like(p)};
  AdamW optimizer(p, g, options);
  for (int i = 0; i < 10; ++i) {
    g.copy_(at::randn({137}, at::kDouble));
    const double lr = 0.1 / (i + 1);
    optimizer.step(lr);
    reference.step(g, lr);
    ASSERT_TRUE(p.allclose(reference.p, 1e-12, 1e-12)) << "step " << i + 1;
  }
  EXPECT_EQ(optimizer.num_steps().item<int64_t>(), 10);
  EXPECT_TRUE(optimizer.exp_avg().allclose(reference.m, 1e-12, 1e-12));
  EXPECT_TRUE(optimizer.exp_avg_sq().allclose(reference.v, 1e-12, 1e-12));
}

TEST(OptimizerTest, StateRestoredGoesOnBitForBit) {
  at::manual_seed(6);
  const at::Tensor start = at::randn({64});
  const at::Tensor gradient = at::randn({64});
  at::Tensor a = start.clone(), b = start.clone();
  AdamW first(a, gradient, {}), second(b, gradient, {});
  first.step(0.01);
  b.copy_(a);
  second.exp_avg().copy_(first.exp_avg());
  second.exp_avg_sq().copy_(first.exp_avg_sq());
  second.num_steps().copy_(first.num_steps());
  first.step(0.02);
  second.step(0.02);
  EXPECT_TRUE(a.equal(b));
}

TEST(OptimizerTest, RefusesBuffersThatDiffer) {
  EXPECT_ERROR(AdamW(at::zeros({3}), at::zeros({4}), {}), "[3]", "[4]");
  EXPECT_ERROR(AdamW(at::zeros({3}), at::zeros({3}, at::kDouble), {}), "Float", "Double");
}

}  // namespace
}  // namespace tessera
