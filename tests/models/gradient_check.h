// Checks gradients against central differences, in float64.
//
//   expect_gradients(
//       [](const std::vector<at::Tensor>& in) { return rms_normalize(in[0], in[1], 1e-5); },
//       {x_BTD, weight_D});
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

namespace tessera::testing {

using TensorFn = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

// Differentiates sum(fn(inputs) * r) for a random r by every element of every float64 input, and
// expects autograd's gradients to be equal within 1e-8 (1 + |gradient|). With step h the difference
// quotient is off by h^2 times the third derivative plus eps / h: h = 1e-5 leaves about 1e-10 for
// values near 1.
inline void expect_gradients(const TensorFn& fn, std::vector<at::Tensor> inputs) {
  for (at::Tensor& input : inputs) input = input.detach().clone().set_requires_grad(true);
  const at::Tensor output = fn(inputs);
  const at::Tensor r = at::randn_like(output);
  (output * r).sum().backward();
  at::NoGradGuard no_grad;
  constexpr double h = 1e-5;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const at::Tensor flat = inputs[k].view(-1), grad = inputs[k].grad().reshape(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double x = flat[i].item<double>();
      flat[i].fill_(x + h);
      const double above = (fn(inputs) * r).sum().item<double>();
      flat[i].fill_(x - h);
      const double below = (fn(inputs) * r).sum().item<double>();
      flat[i].fill_(x);
      const double want = (above - below) / (2 * h);
      EXPECT_NEAR(grad[i].item<double>(), want, 1e-8 * (1 + std::abs(want)))
          << "input " << k << ", element " << i;
    }
  }
}

}  // namespace tessera::testing
