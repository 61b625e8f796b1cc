// Flex attention as an autograd function and a backend.
//
// Shape legend: as in attention.h.
#include "attention/backends/flex/flex_attention.h"

#include <ATen/TensorOperators.h>

#include <cmath>

#include "attention/backends/flex/flex_passes.h"
#include "attention/op/autograd.h"

namespace tessera {

namespace {

// The arguments that are no tensors; the backward pass needs them too.
struct FlexSettings {
  BlockMask mask;
  double scale;
  std::optional<double> soft_cap;
  FlexArgs args;
  bool wants_d_bias;
};

flex::FlexInputs flex_inputs(const Tensors& tensors, const FlexSettings& settings) {
  return {.q_BTHD = tensors[0],
          .k_BSKD = tensors[1],
          .v_BSKE = tensors[2],
          .sinks_H = tensors[3],
          .bias_BHTS = tensors[4],
          .alibi_slopes_H = tensors[5],
          .scale = settings.scale,
          .soft_cap = settings.soft_cap,
          .bf16_products = settings.args.bf16_products};
}

at::Tensor like(const at::Tensor& gradient, const at::Tensor& input) {
  return gradient.defined() ? gradient.to(input.scalar_type()) : gradient;
}

// `inputs` are q, k, v, sinks, bias and slopes; the last three may be undefined.
Forwarded forward(const Tensors& inputs, const FlexSettings& settings) {
  const flex::ForwardResult result = flex::forward(flex_inputs(inputs, settings), settings.mask);
  Tensors saved = inputs;
  saved.push_back(result.out_BTHE);
  saved.push_back(result.lse_BHT);
  return {.outputs = {result.out_BTHE.to(inputs[0].scalar_type()), result.lse_BHT},
          .saved = std::move(saved)};
}

Tensors backward(const BackwardCall& call, const FlexSettings& settings) {
  const Tensors& saved = call.saved;
  const at::Tensor d_out =
      call.gradients[0].defined() ? call.gradients[0] : saved[6].new_zeros(saved[6].sizes());
  const flex::BackwardResult result =
      flex::backward(flex_inputs(saved, settings), settings.mask, {saved[6], saved[7]}, d_out,
                     call.gradients[1], settings.wants_d_bias);
  return {like(result.d_q_BTHD, saved[0]),
          like(result.d_k_BSKD, saved[1]),
          like(result.d_v_BSKE, saved[2]),
          saved[3].defined() ? like(result.d_sinks_H, saved[3]) : at::Tensor(),
          saved[4].defined() ? like(result.d_bias_BHTS, saved[4]) : at::Tensor(),
          at::Tensor()};
}

// The name of the kernels that a call runs, as text that lives as long as the program.
std::string_view kernel_name(const flex::FlexInputs& inputs, const BlockMask& mask) {
  static const std::string float32 = std::string("block-sparse, ") + flex::tile_kernels().name;
  static const std::string bf16 = float32 + ", products of bfloat16";
  return flex::multiplies_in_bf16(inputs, mask) ? bf16 : float32;
}

}  // namespace

AttentionOutput flex_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options, const FlexArgs& args) {
  const double scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q_BTHD.size(3))));
  const at::Tensor& bias_BHTS = options.bias_BHTS;
  const FlexSettings settings{.mask = mask,
                              .scale = scale,
                              .soft_cap = options.soft_cap,
                              .args = args,
                              .wants_d_bias = bias_BHTS.defined() && bias_BHTS.requires_grad()};
  const Tensors inputs{q_BTHD, k_BSKD, v_BSKE, options.sinks_H, bias_BHTS, options.alibi_slopes_H};
  const Tensors results = record(
      inputs, [&] { return forward(inputs, settings); },
      [settings](const BackwardCall& call) { return backward(call, settings); },
      AbsentGradient::kUndefined);
  AttentionOutput output{.out_BTHE = results[0],
                         .kernel = kernel_name({.q_BTHD = q_BTHD,
                                                .k_BSKD = k_BSKD,
                                                .v_BSKE = v_BSKE,
                                                .bf16_products = args.bf16_products},
                                               mask)};
  if (options.return_lse) output.lse_BHT = results[1];
  return output;
}

AttentionBackend flex_backend() {
  using enum AttentionFeature;
  const auto function = [](const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                           const at::Tensor& v_BSKE, const BlockMask& mask,
                           const AttentionOptions& options) {
    return flex_attention(q_BTHD, k_BSKD, v_BSKE, mask, options, options.typed<FlexArgs>());
  };
  return {
      .name = "flex",
      .description = "block-sparse kernels on the CPU; time follows the live tiles",
      .function = function,
      .capabilities = {.dtypes = {at::kFloat, at::kBFloat16, at::kHalf},
                       .devices = {at::kCPU},
                       .features = {kSoftCap, kSinks, kBias, kAlibi, kReturnLse, kValueDim,
                                    kGradient, kBiasGradient},
                       .reasons = {{kReturnWeights, "the weights never exist as a whole"},
                                   {kAlibiGradient, "slopes are constants to its kernels"}}},
      .signature = AttentionSignature::of<FlexArgs>({{"bf16_products", &FlexArgs::bf16_products}}),
      .aliases = {"flex_attention", "flash_attention_2"}};
}

}  // namespace tessera
