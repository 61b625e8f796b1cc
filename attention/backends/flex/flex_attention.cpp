// Flex attention as an autograd function and a backend.
//
// Shape legend: as in attention.h.
#include "attention/backends/flex/flex_attention.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "attention/backends/flex/flex_passes.h"

namespace tessera {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The arguments that are no tensors, which the autograd context keeps for the backward pass.
struct FlexSettings : torch::CustomClassHolder {
  FlexSettings(BlockMask block_mask, double softmax_scale, std::optional<double> cap,
               const FlexArgs& flex_args)
      : mask(std::move(block_mask)), scale(softmax_scale), soft_cap(cap), args(flex_args) {}

  BlockMask mask;
  double scale;
  std::optional<double> soft_cap;
  FlexArgs args;
};

constexpr const char* kSettings = "settings";

flex::FlexInputs flex_inputs(const variable_list& tensors, const FlexSettings& settings) {
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

struct FlexAttention : torch::autograd::Function<FlexAttention> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q_BTHD,
                               const at::Tensor& k_BSKD, const at::Tensor& v_BSKE,
                               const std::optional<at::Tensor>& sinks_H,
                               const std::optional<at::Tensor>& bias_BHTS,
                               const std::optional<at::Tensor>& alibi_slopes_H,
                               const c10::intrusive_ptr<FlexSettings>& settings) {
    const auto given = [](const std::optional<at::Tensor>& x) { return x.value_or(at::Tensor()); };
    const variable_list inputs{q_BTHD,         k_BSKD,           v_BSKE,
                               given(sinks_H), given(bias_BHTS), given(alibi_slopes_H)};
    const flex::ForwardResult result =
        flex::forward(flex_inputs(inputs, *settings), settings->mask);
    context->saved_data[kSettings] = at::IValue::make_capsule(settings);
    context->saved_data["wants_d_bias"] = bias_BHTS && bias_BHTS->requires_grad();
    variable_list saved = inputs;
    saved.push_back(result.out_BTHE);
    saved.push_back(result.lse_BHT);
    context->save_for_backward(saved);
    context->set_materialize_grads(false);
    return {result.out_BTHE.to(q_BTHD.scalar_type()), result.lse_BHT};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto settings = c10::static_intrusive_pointer_cast<FlexSettings>(
        context->saved_data[kSettings].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const at::Tensor d_out =
        gradients[0].defined() ? gradients[0] : saved[6].new_zeros(saved[6].sizes());
    const flex::BackwardResult result =
        flex::backward(flex_inputs(saved, *settings), settings->mask, {saved[6], saved[7]}, d_out,
                       gradients[1], context->saved_data["wants_d_bias"].toBool());
    return {like(result.d_q_BTHD, saved[0]),
            like(result.d_k_BSKD, saved[1]),
            like(result.d_v_BSKE, saved[2]),
            saved[3].defined() ? like(result.d_sinks_H, saved[3]) : at::Tensor(),
            saved[4].defined() ? like(result.d_bias_BHTS, saved[4]) : at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

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
  const auto settings = c10::make_intrusive<FlexSettings>(mask, scale, options.soft_cap, args);
  // The autograd function takes no undefined tensors.
  const auto optional = [](const at::Tensor& x) {
    return x.defined() ? std::optional<at::Tensor>(x) : std::nullopt;
  };
  const variable_list results =
      FlexAttention::apply(q_BTHD, k_BSKD, v_BSKE, optional(options.sinks_H),
                           optional(options.bias_BHTS), optional(options.alibi_slopes_H), settings);
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
