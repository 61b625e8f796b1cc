// The backend "sdpa": LibTorch's scaled_dot_product_attention, on any device.
#pragma once

#include "attention/op/backend.h"

namespace tessera {

// Passes no tensor when the mask is exactly full or causal, otherwise the mask's additive form,
// which is T x S memory. Called through an AttentionOp, which checks inputs and capabilities.
AttentionOutput sdpa_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options);

AttentionBackend sdpa_backend();

}  // namespace tessera
