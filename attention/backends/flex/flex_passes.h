// The two passes of flex attention, on plain tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/flex_problem.h"

namespace tessera::flex {

struct ForwardResult {
  at::Tensor out_BTHE{};  // float32
  at::Tensor lse_BHT{};   // float32, natural log, without the sink
};

ForwardResult forward(const FlexInputs& inputs, const BlockMask& mask,
                      const TileKernels& kernels = tile_kernels());

// Gradients in float32, of the inputs' shapes. d_bias and d_sinks are undefined unless the input is
// there and wanted.
struct BackwardResult {
  at::Tensor d_q_BTHD{};
  at::Tensor d_k_BSKD{};
  at::Tensor d_v_BSKE{};
  at::Tensor d_bias_BHTS{};
  at::Tensor d_sinks_H{};
};

// out and lse as forward gave them; d_lse may be undefined.
BackwardResult backward(const FlexInputs& inputs, const BlockMask& mask,
                        const ForwardResult& result, const at::Tensor& d_out_BTHE,
                        const at::Tensor& d_lse_BHT, bool wants_d_bias,
                        const TileKernels& kernels = tile_kernels());

}  // namespace tessera::flex
