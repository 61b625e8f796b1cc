// The two kinds of products, each in a source of its own; which one a call gets is decided in
// products.cpp.
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

// The kernels have products of bfloat16.
std::unique_ptr<ForwardProducts> bf16_forward_products(const FlexInputs& inputs,
                                                       const BlockMask& mask,
                                                       const TileKernels& kernels);
std::unique_ptr<BackwardProducts> bf16_backward_products(const FlexInputs& inputs,
                                                         const at::Tensor& d_out_BTHE,
                                                         const BlockMask& mask,
                                                         const TileKernels& kernels);

}  // namespace tessera::flex
