// LibTorch's scaled_dot_product_attention as a backend.
//
// LibTorch's CPU flash kernel takes strided views, heads in groups and an additive mask in q's
// dtype (one [1 or B, 1 or H] mask for all layers: BlockMask makes it once), gives 0 and gradient 0
// for rows without a key, and writes its output in [B, T, H, E] order. Value head dims other than D
// and biases with a gradient take LibTorch's unfused path, which treats empty rows alike; the tests
// check both.
//
// Shape legend: as in attention.h.
#include "attention/backends/sdpa_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace tessera {

namespace {

// The additive mask, the bias, their sum, or nothing when neither says anything.
std::optional<at::Tensor> attention_bias(const at::Tensor& q_BTHD, const BlockMask& mask,
                                         const at::Tensor& bias_BHTS) {
  std::optional<at::Tensor> result_BHTS;
  if (!mask.is_full()) result_BHTS = mask.to_additive(q_BTHD.scalar_type(), q_BTHD.device());
  if (bias_BHTS.defined()) {
    const at::Tensor bias = bias_BHTS.to(q_BTHD.scalar_type());
    result_BHTS = result_BHTS ? *result_BHTS + bias
                              : bias.expand({-1, -1, mask.shape().q_len, mask.shape().kv_len});
  }
  return result_BHTS;
}

}  // namespace

AttentionOutput sdpa_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options) {
  const bool is_causal = !options.bias_BHTS.defined() && mask.is_causal();
  const std::optional<at::Tensor> bias_BHTS =
      is_causal ? std::nullopt : attention_bias(q_BTHD, mask, options.bias_BHTS);
  const bool grouped_heads = q_BTHD.size(2) != k_BSKD.size(2);
  const at::Tensor out_BHTE = at::scaled_dot_product_attention(
      q_BTHD.transpose(1, 2), k_BSKD.transpose(1, 2), v_BSKE.transpose(1, 2), bias_BHTS,
      /*dropout_p=*/0.0, is_causal, options.scale, grouped_heads);
  const char* const kernel = is_causal ? "is_causal" : bias_BHTS ? "additive mask" : "no mask";
  return {.out_BTHE = out_BHTE.transpose(1, 2), .kernel = kernel};
}

AttentionBackend sdpa_backend() {
  using enum AttentionFeature;
  const char* const reason = "LibTorch's scaled_dot_product_attention cannot do it";
  return {.name = "sdpa",
          .description = "LibTorch's scaled_dot_product_attention with an additive mask",
          .function = sdpa_attention,
          .capabilities = {.features = {kBias, kValueDim, kGradient, kBiasGradient},
                           .reasons = {{kSoftCap, reason},
                                       {kSinks, reason},
                                       {kAlibi, reason},
                                       {kReturnLse, reason},
                                       {kReturnWeights, reason}}}};
}

}  // namespace tessera
