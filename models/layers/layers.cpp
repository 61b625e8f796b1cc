#include "models/layers/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>

#include "attention/op/autograd.h"
#include "parallel/pipeline/weight_gradients.h"

namespace tessera {
namespace {

using at::Tensor;

at::ScalarType statistics_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// With n = x r and r = 1 / sqrt(mean(x^2) + eps), means over the last dim:
//
//   y  = n w
//   dw = sum(dy n)                    over all rows
//   dx = r (dy w - n mean(dy w n))
//
// LibTorch's CPU operator is a composite that keeps five intermediates; this function takes half
// its time. Forward and backward in float32 on two threads: 2.6 against 4.4 ms for [8, 512, 256],
// 75 against 185 ms for [2048, 4096].
Forwarded rms_forward(const Tensor& x_BTD, const Tensor& weight_D, double eps) {
  const at::ScalarType type = statistics_type(x_BTD);
  const Tensor x = x_BTD.to(type);
  const auto dim = static_cast<double>(x.size(-1));
  const Tensor rms_rcp_BT1 =
      at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true).square_().div_(dim).add_(eps).rsqrt_();
  return {.outputs = {(x * rms_rcp_BT1).mul_(weight_D.to(type)).to(x_BTD.scalar_type())},
          .saved = {x_BTD, weight_D, rms_rcp_BT1}};
}

Tensors rms_backward(const BackwardCall& call) {
  const Tensor &x_BTD = call.saved[0], &weight_D = call.saved[1], &rms_rcp_BT1 = call.saved[2];
  const at::ScalarType type = statistics_type(x_BTD);
  const int64_t dim = x_BTD.size(-1);
  const Tensor dy = call.gradients[0].to(type), weight = weight_D.to(type);
  const Tensor normal = x_BTD.to(type) * rms_rcp_BT1;
  const Tensor dy_normal_ND = (dy * normal).reshape({-1, dim});
  const Tensor mean_N = at::mv(dy_normal_ND, weight / dim);
  const Tensor dx = (dy * weight)
                        .addcmul_(normal, mean_N.view(rms_rcp_BT1.sizes()), /*value=*/-1)
                        .mul_(rms_rcp_BT1);
  return {dx.to(x_BTD.scalar_type()), dy_normal_ND.sum(0).to(weight_D.scalar_type())};
}

}  // namespace

Tensor project(const Tensor& x_BTD, const Tensor& weight_ND,
               pipeline::WeightGradients* weight_gradients) {
  if (weight_gradients != nullptr) return weight_gradients->linear(x_BTD, weight_ND);
  return at::linear(x_BTD, weight_ND);
}

Tensor rms_normalize(const Tensor& x_BTD, const Tensor& weight_D, double eps) {
  TORCH_CHECK(weight_D.dim() == 1 && x_BTD.size(-1) == weight_D.size(0), "rms_normalize: x is ",
              x_BTD.sizes(), ", weight is ", weight_D.sizes(), ", expected [..., D] and [D]");
  if (!x_BTD.is_cpu()) return at::rms_norm(x_BTD, weight_D.sizes(), weight_D, eps);  // one kernel
  return record(
      {x_BTD, weight_D}, [&] { return rms_forward(x_BTD, weight_D, eps); }, rms_backward)[0];
}

// This is the plain composition. A Function that keeps only the two projections saves a quarter of
// the activations here, but silu runs once more in backward, which costs the debug model 0.8 ms a
// layer of 8 x 512 tokens (measured).
Tensor swiglu(const Tensor& x_BTD, const Tensor& w1_FD, const Tensor& w2_DF, const Tensor& w3_FD,
              pipeline::WeightGradients* weight_gradients) {
  const Tensor gate_BTF = at::silu(project(x_BTD, w1_FD, weight_gradients));
  return project(gate_BTF * project(x_BTD, w3_FD, weight_gradients), w2_DF, weight_gradients);
}

}  // namespace tessera
