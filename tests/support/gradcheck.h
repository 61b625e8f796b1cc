// expect_gradients(f, inputs) expects that autograd's gradients of the scalar f(inputs) are those
// of central differences, to `tolerance` in each element.
//
// Inputs are contiguous float64 leaves with requires_grad. With step h the difference quotient is
// off by about h^2 |f'''| / 6 and eps |f| / h; h = 1e-5 makes both about 1e-10 for functions and
// derivatives of order 1 to 10.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace tessera::testing {

inline void expect_gradients(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& f,
                             const std::vector<at::Tensor>& inputs, double tolerance = 1e-8) {
  constexpr double kStep = 1e-5;
  for (const at::Tensor& input : inputs) {
    ASSERT_EQ(input.scalar_type(), at::kDouble);
    input.mutable_grad().reset();
  }
  f(inputs).backward();

  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_TRUE(inputs[i].grad().defined()) << "input " << i << " has no gradient";
    const at::Tensor gradient = inputs[i].grad().contiguous();
    ASSERT_TRUE(inputs[i].is_contiguous());
    double* value = inputs[i].mutable_data_ptr<double>();
    for (int64_t j = 0; j < inputs[i].numel(); ++j) {
      const double original = value[j];
      value[j] = original + kStep;
      const double above = f(inputs).item<double>();
      value[j] = original - kStep;
      const double below = f(inputs).item<double>();
      value[j] = original;
      EXPECT_NEAR(gradient.const_data_ptr<double>()[j], (above - below) / (2 * kStep), tolerance)
          << "input " << i << ", element " << j;
    }
  }
}

}  // namespace tessera::testing
