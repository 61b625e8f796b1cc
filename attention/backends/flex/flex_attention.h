// The backend "flex": block-sparse attention on the CPU, forward and backward. Time follows the
// tiles of the mask that hold a pair, and memory is linear in the number of tokens.
#pragma once

#include "attention/op/backend.h"

namespace tessera {

// The arguments of "flex".
struct FlexArgs {
  // If true, bfloat16 inputs are multiplied as they are where the processor has instructions for it
  // (AMX), which rounds probabilities and score gradients to bfloat16. If false, and on other
  // processors, bfloat16 inputs are computed in float32.
  bool bf16_products = true;
};

// float32, bfloat16 or float16 on the CPU; scores and sums are float32. Skips tiles without a pair;
// results do not depend on the number of threads. Called through an AttentionOp, which checks
// inputs and capabilities.
AttentionOutput flex_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options, const FlexArgs& args = {});

AttentionBackend flex_backend();

}  // namespace tessera
