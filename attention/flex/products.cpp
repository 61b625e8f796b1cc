#include "attention/flex/products.h"

#include <algorithm>

#include "attention/flex/products_impl.h"

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

ProductScratch::ProductScratch(const Bf16Kernels* bf16, size_t elements)
    : bf16_(bf16), operand_(elements) {
  if (bf16_ != nullptr) bf16_->begin(state_);
}

ProductScratch::~ProductScratch() {
  if (bf16_ != nullptr) bf16_->end(state_);
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
             ? bf16_backward_products(inputs, d_out_BTHE.to(at::kBFloat16), mask, kernels)
             : float_backward_products(inputs, d_out_BTHE, mask, kernels);
}

}  // namespace tessera::flex
