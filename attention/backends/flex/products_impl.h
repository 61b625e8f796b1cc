// The factories of the two kinds of products, which are implemented in float_products.cpp and
// bf16_products.cpp; products.cpp decides which kind a call gets.
// Internal to attention/backends/flex/.
#pragma once

#include "attention/backends/flex/products.h"

namespace tessera::flex {

std::unique_ptr<ForwardProducts> float_forward_products(const FlexInputs& inputs,
                                                        const BlockMask& mask,
                                                        const TileKernels& kernels);
std::unique_ptr<BackwardProducts> float_backward_products(const FlexInputs& inputs,
                                                          const at::Tensor& d_out_BTHE,
                                                          const BlockMask& mask,
                                                          const TileKernels& kernels);

// `kernels` must have products of bfloat16 (TileKernels::bf16 is not null).
std::unique_ptr<ForwardProducts> bf16_forward_products(const FlexInputs& inputs,
                                                       const BlockMask& mask,
                                                       const TileKernels& kernels);
std::unique_ptr<BackwardProducts> bf16_backward_products(const FlexInputs& inputs,
                                                         const at::Tensor& d_out_BTHE,
                                                         const BlockMask& mask,
                                                         const TileKernels& kernels);

}  // namespace tessera::flex
