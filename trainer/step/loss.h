// Cross entropy from hidden states, without ever holding the logits of all tokens.
//
// Shape legend: B rows, T tokens, D model dim, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "parallel/tensor/tensor_parallel.h"

namespace tessera {

// Tokens whose logits are held at once: about a million float32 values, at least 256 tokens.
int64_t loss_chunk_tokens(int64_t vocab_size);

// Sum over valid labels of -log softmax(hidden W^T)[label], a scalar in float32 (float64 for
// float64 inputs). Labels equal to kIgnoreLabel add nothing. Differentiable in hidden_BTD and
// weight_VD: the gradients are made chunk by chunk in the forward pass and scaled by the incoming
// gradient in backward (in place: once only), so scale the sum by passing that gradient (1 / valid
// labels of the whole step). labels_BT: int64. Throws c10::Error for shapes that disagree or labels
// outside [0, V).
//
// weight_VD may be a part of the vocabulary's rows (tensor parallelism): three sums of one number
// per token over the ranks make the softmax; the result is the same on all of them, and the
// gradient of hidden_BTD is this rank's part of a sum.
at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens,
                             const VocabularyPart& vocabulary);

// With the whole vocabulary.
at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens);

}  // namespace tessera
