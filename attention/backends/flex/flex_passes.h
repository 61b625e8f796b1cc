// The two passes of flex attention on plain tensors, without autograd.
// Internal to attention/backends/flex/. The formulas of the backward pass are in backward.cpp.
//
// Inputs, mask and kernels must fit together; nothing is checked here. Results do not depend on the
// number of threads.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/flex_problem.h"

namespace tessera::flex {

struct ForwardResult {
  at::Tensor out_BTHE{};  // float32
  at::Tensor lse_BHT{};   // float32, natural log, without the sink
};

// A query without a key has out 0 and lse -inf.
ForwardResult forward(const FlexInputs& inputs, const BlockMask& mask,
                      const TileKernels& kernels = tile_kernels());

// Gradients in float32, of the inputs' shapes. d_bias is undefined unless it is wanted, d_sinks
// unless there are sinks.
struct BackwardResult {
  at::Tensor d_q_BTHD{};
  at::Tensor d_k_BSKD{};
  at::Tensor d_v_BSKE{};
  at::Tensor d_bias_BHTS{};
  at::Tensor d_sinks_H{};
};

// `result` is what forward gave for the same inputs, mask and kernels. d_out is of any type that
// inputs may have; d_lse is float32, or undefined for zero. wants_d_bias requires a bias.
BackwardResult backward(const FlexInputs& inputs, const BlockMask& mask,
                        const ForwardResult& result, const at::Tensor& d_out_BTHE,
                        const at::Tensor& d_lse_BHT, bool wants_d_bias,
                        const TileKernels& kernels = tile_kernels());

}  // namespace tessera::flex
