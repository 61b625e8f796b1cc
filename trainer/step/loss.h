// Cross entropy from hidden states, without ever holding the logits of all tokens: they are made,
// used and freed chunk by chunk, and so are their gradients.
//
//   loss = sum over the valid labels of -log softmax(hidden W^T)[label]
//
// Shape legend: B rows, T tokens, D model dim, V rows of the head's weight on this rank (the whole
// vocabulary without tensor parallelism).
//
//   const int64_t chunk = loss_chunk_tokens(weight_VD.size(0));
//   const at::Tensor sum = cross_entropy_sum(hidden_BTD, weight_VD, labels_BT, chunk);
//   torch::autograd::backward({sum}, {at::full_like(sum, 1.0 / num_valid_labels)});
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "parallel/tensor/tensor_parallel.h"

namespace tessera {

// Tokens whose logits are held at once for a head of `vocab_size` columns: about a million values,
// at least 256 tokens.
int64_t loss_chunk_tokens(int64_t vocab_size);

// The sum of the losses, a scalar in float32 (float64 for float64 inputs). labels_BT is int64;
// labels equal to kIgnoreLabel (data/batch.h) add nothing.
//
// The sum is differentiable in hidden_BTD and weight_VD. Their gradients are made in the forward
// pass and multiplied by the incoming gradient in backward, in place, so backward runs once only.
// A caller that wants a mean passes 1 / (valid labels of the whole step) as that gradient.
//
// Under tensor parallelism weight_VD holds the rows `vocabulary.rows` of the whole vocabulary. Each
// chunk then takes a maximum and a sum of one number per token over vocabulary.group, and the loss
// is summed over it at the end: the call is collective, every rank gets the same result, and the
// gradient of hidden_BTD is this rank's part of a sum.
//
// Throws c10::Error, with shapes or values, for hidden states, weight and labels that do not fit
// each other, a weight of other rows than `vocabulary` says, chunk_tokens < 1, and a label outside
// of [0, vocabulary.vocab_size).
at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens,
                             const VocabularyPart& vocabulary);

// cross_entropy_sum for a weight that holds the whole vocabulary.
at::Tensor cross_entropy_sum(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                             const at::Tensor& labels_BT, int64_t chunk_tokens);

}  // namespace tessera
