// The layers that model families share, as functions of tensors. All are differentiable in every
// tensor argument, run on any device, and return x's dtype.
//
// Shape legend: B rows, T tokens, D model dim, N output features, F ffn dim (this rank's part of it
// under tensor parallelism).
#pragma once

#include <ATen/core/Tensor.h>

namespace tessera {

namespace pipeline {
class WeightGradients;
}

// x W^T, [B, T, N]. weight_gradients takes the weight's gradient (split backward,
// parallel/pipeline/weight_gradients.h); with null it comes with backward. The name differs from
// at::linear because argument-dependent lookup would find that as well.
at::Tensor project(const at::Tensor& x_BTD, const at::Tensor& weight_ND,
                   pipeline::WeightGradients* weight_gradients = nullptr);

// x / sqrt(mean(x^2) + eps) * weight over the last dim, computed in float32 for half types and cast
// back at the end. On the CPU it keeps x, the weight and one number per row for backward and has no
// second derivatives; other devices run at::rms_norm. Throws c10::Error unless x is [..., D] and
// weight is [D].
at::Tensor rms_normalize(const at::Tensor& x_BTD, const at::Tensor& weight_D, double eps);

// w2(silu(w1 x) * w3 x), [B, T, D]. weight_gradients is handed to each of the three products.
at::Tensor swiglu(const at::Tensor& x_BTD, const at::Tensor& w1_FD, const at::Tensor& w2_DF,
                  const at::Tensor& w3_FD, pipeline::WeightGradients* weight_gradients = nullptr);

}  // namespace tessera
