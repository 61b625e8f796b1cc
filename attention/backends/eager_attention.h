// The backend "eager": plain tensor operations on the dense mask, in any dtype, on any device. It
// is the slow, obvious oracle that the others are tested against, and the only backend that returns
// attention weights. Memory is T x S per head.
#pragma once

#include "attention/op/backend.h"

namespace tessera {

// Called through an AttentionOp, which checks inputs and capabilities.
AttentionOutput eager_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                const at::Tensor& v_BSKE, const BlockMask& mask,
                                const AttentionOptions& options);

AttentionBackend eager_backend();

}  // namespace tessera
