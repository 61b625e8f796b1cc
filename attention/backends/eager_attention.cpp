// The oracle among the backends: the formulas of attention.h, one line each, on T x S tensors. It
// computes in float64 for float64 inputs and in float32 otherwise.
//
// In rows that may attend to nothing, the maximum, the sum and the logarithm are replaced by finite
// numbers *before* a function with an infinite slope sees them, so that autograd multiplies zeros
// by finite numbers only.
//
// Shape legend: as in attention.h; 1 is a kept dimension.
#include "attention/backends/eager_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>

#include <cmath>
#include <limits>

namespace tessera {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::ScalarType compute_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// [B, S, K, D] -> [B, H, S, D]: every key head stands for H / K query heads in a row.
at::Tensor expand_heads(const at::Tensor& x_BSKD, int64_t num_heads) {
  const at::Tensor x_BKSD = x_BSKD.transpose(1, 2).to(compute_dtype(x_BSKD));
  return x_BKSD.repeat_interleave(num_heads / x_BKSD.size(1), 1);
}

at::Tensor per_head(const at::Tensor& x_H, at::ScalarType dtype) {
  return x_H.to(dtype).view({1, -1, 1, 1});
}

at::Tensor alibi_bias(const at::Tensor& slopes_H, const at::Tensor& scores_BHTS) {
  const at::Tensor q_T1 = at::arange(scores_BHTS.size(2), scores_BHTS.options()).unsqueeze(1);
  const at::Tensor kv_S = at::arange(scores_BHTS.size(3), scores_BHTS.options());
  return per_head(slopes_H, scores_BHTS.scalar_type()) * (kv_S - q_T1);
}

at::Tensor masked_scores(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD, const BlockMask& mask,
                         const AttentionOptions& options) {
  const double scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q_BTHD.size(3))));
  const at::Tensor q_BHTD = q_BTHD.transpose(1, 2).to(compute_dtype(q_BTHD));
  const at::Tensor k_BHSD = expand_heads(k_BSKD, q_BTHD.size(2));
  at::Tensor scores_BHTS = q_BHTD.matmul(k_BHSD.transpose(2, 3)) * scale;
  if (options.soft_cap) {
    scores_BHTS = (scores_BHTS / *options.soft_cap).tanh() * *options.soft_cap;
  }
  if (options.bias_BHTS.defined()) {
    scores_BHTS = scores_BHTS + options.bias_BHTS.to(scores_BHTS.scalar_type());
  }
  if (options.alibi_slopes_H.defined()) {
    scores_BHTS = scores_BHTS + alibi_bias(options.alibi_slopes_H, scores_BHTS);
  }
  return scores_BHTS.masked_fill(mask.to_dense(q_BTHD.device()).logical_not(), -kInfinity);
}

}  // namespace

AttentionOutput eager_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                const at::Tensor& v_BSKE, const BlockMask& mask,
                                const AttentionOptions& options) {
  const at::Tensor scores_BHTS = masked_scores(q_BTHD, k_BSKD, mask, options);

  const at::Tensor max_BHT1 = scores_BHTS.detach().amax({3}, /*keepdim=*/true);
  const at::Tensor is_empty_BHT1 = max_BHT1 == -kInfinity;
  const at::Tensor shift_BHT1 = max_BHT1.masked_fill(is_empty_BHT1, 0.0);
  at::Tensor exp_BHTS = (scores_BHTS - shift_BHT1).exp();
  at::Tensor sum_BHT1 = exp_BHTS.sum({3}, /*keepdim=*/true).masked_fill(is_empty_BHT1, 1.0);
  const at::Tensor lse_BHT1 = sum_BHT1.log() + shift_BHT1;

  // With sinks the weights have a maximum and a sum of their own; lse does not know them.
  if (options.sinks_H.defined()) {
    const at::Tensor sinks_1H11 = per_head(options.sinks_H, scores_BHTS.scalar_type());
    const at::Tensor shift = max_BHT1.maximum(sinks_1H11.detach());
    exp_BHTS = (scores_BHTS - shift).exp();
    sum_BHT1 = exp_BHTS.sum({3}, /*keepdim=*/true) + (sinks_1H11 - shift).exp();
  }
  const at::Tensor weights_BHTS = exp_BHTS / sum_BHT1;
  const at::Tensor out_BHTE = weights_BHTS.matmul(expand_heads(v_BSKE, q_BTHD.size(2)));

  AttentionOutput output;
  output.out_BTHE = out_BHTE.transpose(1, 2).to(q_BTHD.scalar_type());
  if (options.return_lse) {
    output.lse_BHT = lse_BHT1.masked_fill(is_empty_BHT1, -kInfinity).squeeze(3);
  }
  if (options.return_weights) output.weights_BHTS = weights_BHTS;
  return output;
}

AttentionBackend eager_backend() {
  return {.name = "eager",
          .description = "plain tensor operations on the dense mask, float64-capable oracle",
          .function = eager_attention,
          .capabilities = {.features = all_attention_features()}};
}

}  // namespace tessera
