// Merging of partial attention results: the same queries against different keys.
//
//   AttentionOutput a = attend(q, k_first, v_first, first_mask, {.return_lse = true});
//   AttentionOutput b = attend(q, k_rest, v_rest, rest_mask, {.return_lse = true});
//   AttentionOutput whole = merge(a, b);        // as if against all keys at once
//
// Ring attention and decoding over a split cache are made of such merges. The parts must be
// computed without sinks: a sink takes part in a softmax once, not once per part.
//
// Shape legend: as in attention.h.
#pragma once

#include "attention/op/attention.h"

namespace tessera {

// Returns, with m = max(lse_a, lse_b) of each query and head,
//
//   sum = exp(lse_a - m) + exp(lse_b - m)
//   out = (exp(lse_a - m) out_a + exp(lse_b - m) out_b) / sum
//   lse = m + log(sum)
//
// A query that no part gave a key keeps out 0 and lse -inf, and its gradients are 0, never NaN. The
// computation is differentiable and in the dtype of a's lse; out has the dtype of a's out. Throws
// c10::Error when a part has no out or no lse, or when the shapes differ.
AttentionOutput merge(const AttentionOutput& a, const AttentionOutput& b);

}  // namespace tessera
