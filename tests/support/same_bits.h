// Comparing tensors bit by bit: NaN equals the same NaN, and 0 differs from -0.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstring>

namespace tessera::testing {

// Whether two CPU tensors have equal dtype, shape and bytes; strides may differ.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         (a.nbytes() == 0 || std::memcmp(a.contiguous().const_data_ptr(),
                                         b.contiguous().const_data_ptr(), a.nbytes()) == 0);
}

}  // namespace tessera::testing
