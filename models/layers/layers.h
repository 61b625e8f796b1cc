// The layers that model families share, as functions of tensors. Shapes: B rows, T tokens, D model
// dim, F ffn dim.
#pragma once

#include <ATen/core/Tensor.h>

namespace tessera {

namespace pipeline {
class WeightGradients;
}

// x_BTD W^T; weight_ND. (Named apart from at::linear, which argument-dependent lookup would find as
// well.) weight_gradients: takes the weight's gradient; null: it comes with backward.
at::Tensor project(const at::Tensor& x_BTD, const at::Tensor& weight_ND,
                   pipeline::WeightGradients* weight_gradients = nullptr);

// x / sqrt(mean(x^2) + eps) * weight over the last dim, computed in float32 for half types and cast
// back at the end. Keeps x and one number per row for backward. No second derivatives.
at::Tensor rms_normalize(const at::Tensor& x_BTD, const at::Tensor& weight_D, double eps);

// w2(silu(w1 x) * w3 x)
at::Tensor swiglu(const at::Tensor& x_BTD, const at::Tensor& w1_FD, const at::Tensor& w2_DF,
                  const at::Tensor& w3_FD, pipeline::WeightGradients* weight_gradients = nullptr);

}  // namespace tessera
