// Merging of partial attention results: the same queries against different keys.
//
//   AttentionOutput a = attend(q, k_first, v_first, first_mask, {.return_lse = true});
//   AttentionOutput b = attend(q, k_rest, v_rest, rest_mask, {.return_lse = true});
//   AttentionOutput whole = merge(a, b);        // as if against all keys at once
//
// What ring attention and decoding over a split cache are made of. Without sinks: a sink takes part
// once, not in every part.
#pragma once

#include "attention/op/attention.h"

namespace tessera {

// out = (exp(lse_a - m) out_a + exp(lse_b - m) out_b) / (exp(lse_a - m) + exp(lse_b - m)), m the
// larger lse; a query that no part gave a key keeps out 0 and lse -inf, and gradients there are 0,
// never NaN. Computed in the dtype of lse; out has the dtype of a's. Throws c10::Error when a part
// has no lse or the shapes differ.
AttentionOutput merge(const AttentionOutput& a, const AttentionOutput& b);

}  // namespace tessera
