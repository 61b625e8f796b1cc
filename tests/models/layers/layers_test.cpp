#include "models/layers/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/models/gradient_check.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;

TEST(Project, MultipliesByTheTransposedWeight) {
  const Tensor x = at::randn({2, 3, 4}, at::kDouble), w = at::randn({5, 4}, at::kDouble);
  EXPECT_TRUE(at::allclose(project(x, w), at::matmul(x, w.t()), 0, 1e-14));
}

TEST(RmsNormalize, IsLibTorchsInFloat64) {
  const Tensor x = at::randn({2, 3, 16}, at::kDouble) * 3, w = at::randn({16}, at::kDouble);
  EXPECT_TRUE(
      at::allclose(rms_normalize(x, w, 1e-5), at::rms_norm(x, {16}, w, 1e-5), 1e-14, 1e-14));
}

TEST(RmsNormalize, Gradients) {
  at::manual_seed(3);
  const Tensor x = at::randn({2, 3, 8}, at::kDouble), w = at::randn({8}, at::kDouble);
  testing::expect_gradients(
      [](const std::vector<Tensor>& in) { return rms_normalize(in[0], in[1], 1e-2); }, {x, w});
}

TEST(RmsNormalize, GradientsOfATransposedInput) {
  at::manual_seed(4);
  const Tensor x = at::randn({8, 3, 2}, at::kDouble), w = at::randn({8}, at::kDouble);
  testing::expect_gradients(
      [](const std::vector<Tensor>& in) {
        return rms_normalize(in[0].transpose(0, 2), in[1], 1e-2).transpose(0, 1);
      },
      {x, w});
}

// Half types: the result of float32 arithmetic on the same values, rounded once; gradients
// likewise.
TEST(RmsNormalize, HalfTypesComputeInFloat32) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    Tensor x = at::randn({4, 64}).to(type).set_requires_grad(true);
    Tensor w = at::randn({64}).to(type).set_requires_grad(true);
    const Tensor dy = at::randn({4, 64}).to(type);
    Tensor x32 = x.detach().to(at::kFloat).set_requires_grad(true);
    Tensor w32 = w.detach().to(at::kFloat).set_requires_grad(true);
    const Tensor y = rms_normalize(x, w, 1e-5), y32 = rms_normalize(x32, w32, 1e-5);
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_TRUE(at::equal(y, y32.to(type)));
    y.backward(dy);
    y32.backward(dy.to(at::kFloat));
    EXPECT_TRUE(at::equal(x.grad(), x32.grad().to(type)));
    EXPECT_TRUE(at::equal(w.grad(), w32.grad().to(type)));
  }
}

TEST(RmsNormalize, RowOfZeros) {
  Tensor x = at::zeros({1, 4}).set_requires_grad(true);
  const Tensor w = at::randn({4});
  const Tensor y = rms_normalize(x, w, 1e-5);
  EXPECT_TRUE(at::equal(y.detach(), at::zeros({1, 4})));
  y.sum().backward();  // dx = w / sqrt(eps)
  EXPECT_TRUE(at::allclose(x.grad()[0], w / std::sqrt(1e-5), 1e-6));
}

TEST(RmsNormalize, Errors) {
  EXPECT_ERROR(rms_normalize(at::zeros({2, 4}), at::zeros({5}), 1e-5), "[2, 4]", "[5]", "[..., D]");
}

TEST(Swiglu, IsItsFormula) {
  const Tensor x = at::randn({2, 3, 4}, at::kDouble);
  const Tensor w1 = at::randn({6, 4}, at::kDouble), w3 = at::randn({6, 4}, at::kDouble);
  const Tensor w2 = at::randn({4, 6}, at::kDouble);
  const Tensor a = at::matmul(x, w1.t());
  const Tensor want = at::matmul(a * a.sigmoid() * at::matmul(x, w3.t()), w2.t());
  EXPECT_TRUE(at::allclose(swiglu(x, w1, w2, w3), want, 1e-13, 1e-13));
}

TEST(Swiglu, Gradients) {
  at::manual_seed(5);
  testing::expect_gradients(
      [](const std::vector<Tensor>& in) { return swiglu(in[0], in[1], in[2], in[3]); },
      {at::randn({2, 3}, at::kDouble), at::randn({4, 3}, at::kDouble),
       at::randn({3, 4}, at::kDouble), at::randn({4, 3}, at::kDouble)});
}

}  // namespace
}  // namespace tessera
