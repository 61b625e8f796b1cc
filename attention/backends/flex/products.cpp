#include "attention/backends/flex/products.h"

#include <algorithm>

#include "attention/backends/flex/products_impl.h"

namespace tessera::flex {

bool multiplies_in_bf16(const FlexInputs& inputs, const BlockMask& mask,
                        const TileKernels& kernels) {
  const BlockSize& block = mask.shape().block;
  return inputs.bf16_products && kernels.bf16 != nullptr &&
         std::min(block.q, block.kv) >= kBf16Depth &&
         inputs.q_BTHD.scalar_type() == at::kBFloat16 &&
         inputs.k_BSKD.scalar_type() == at::kBFloat16 &&
         inputs.v_BSKE.scalar_type() == at::kBFloat16;
}

at::Tensor as_operand(const at::Tensor& x_BTHD, bool bf16) {
  const at::Tensor x = x_BTHD.to(bf16 ? at::kBFloat16 : at::kFloat);
  return x.stride(3) == 1 ? x : x.contiguous();
}

FlexInputs as_operands(FlexInputs inputs, bool bf16) {
  for (at::Tensor* x : {&inputs.q_BTHD, &inputs.k_BSKD, &inputs.v_BSKE}) {
    *x = as_operand(*x, bf16);
  }
  return inputs;
}

std::unique_ptr<ForwardProducts> forward_products(const FlexInputs& inputs, const BlockMask& mask,
                                                  const TileKernels& kernels) {
  return multiplies_in_bf16(inputs, mask, kernels) ? bf16_forward_products(inputs, mask, kernels)
                                                   : float_forward_products(inputs, mask, kernels);
}

std::unique_ptr<BackwardProducts> backward_products(const FlexInputs& inputs,
                                                    const at::Tensor& d_out_BTHE,
                                                    const BlockMask& mask,
                                                    const TileKernels& kernels) {
  return multiplies_in_bf16(inputs, mask, kernels)
             ? bf16_backward_products(inputs, d_out_BTHE, mask, kernels)
             : float_backward_products(inputs, d_out_BTHE, mask, kernels);
}

}  // namespace tessera::flex
