// Shape legend: as in attention.h.
#include "attention/op/capabilities.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceType.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

#include "attention/op/attention.h"

namespace tessera {

namespace {

struct FeatureText {
  AttentionFeature feature;
  const char* name;   // in listings
  const char* field;  // in messages
};

constexpr FeatureText kTexts[] = {
    {AttentionFeature::kSoftCap, "soft_cap", "options.soft_cap"},
    {AttentionFeature::kSinks, "sinks", "options.sinks_H"},
    {AttentionFeature::kBias, "bias", "options.bias_BHTS"},
    {AttentionFeature::kAlibi, "alibi", "options.alibi_slopes_H"},
    {AttentionFeature::kReturnLse, "lse", "options.return_lse"},
    {AttentionFeature::kReturnWeights, "weights", "options.return_weights"},
    {AttentionFeature::kValueDim, "value_dim", "head dim of v other than that of q"},
    {AttentionFeature::kGradient, "gradient", "gradient"},
    {AttentionFeature::kBiasGradient, "bias_gradient", "gradient of options.bias_BHTS"},
    {AttentionFeature::kAlibiGradient, "alibi_gradient", "gradient of options.alibi_slopes_H"},
};

const FeatureText& text_of(AttentionFeature feature) {
  const auto* const text = std::find_if(std::begin(kTexts), std::end(kTexts),
                                        [&](const FeatureText& t) { return t.feature == feature; });
  TORCH_INTERNAL_ASSERT(text != std::end(kTexts), "no text for attention feature ",
                        static_cast<int>(feature));
  return *text;
}

bool wants_gradient(const at::Tensor& x) {
  return x.defined() && x.requires_grad() && c10::GradMode::is_enabled();
}

template <typename T>
bool contains(const std::vector<T>& items, T item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

std::string reason_of(const AttentionCapabilities& capabilities, AttentionFeature feature) {
  for (const auto& [with_reason, reason] : capabilities.reasons) {
    if (with_reason == feature) return reason;
  }
  return "not supported";
}

}  // namespace

const std::vector<AttentionFeature>& all_attention_features() {
  static const std::vector<AttentionFeature> all = [] {
    std::vector<AttentionFeature> features;
    for (const FeatureText& text : kTexts) features.push_back(text.feature);
    return features;
  }();
  return all;
}

const char* to_string(AttentionFeature feature) { return text_of(feature).name; }

bool AttentionCapabilities::has(AttentionFeature feature) const {
  return contains(features, feature);
}

AttentionRequest request_of(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                            const at::Tensor& v_BSKE, const AttentionOptions& options) {
  AttentionRequest request{.dtype = q_BTHD.scalar_type(), .device = q_BTHD.device().type()};
  const auto needs = [&](bool asked_for, AttentionFeature feature) {
    if (asked_for) request.features.push_back(feature);
  };
  needs(options.soft_cap.has_value(), AttentionFeature::kSoftCap);
  needs(options.sinks_H.defined(), AttentionFeature::kSinks);
  needs(options.bias_BHTS.defined(), AttentionFeature::kBias);
  needs(options.alibi_slopes_H.defined(), AttentionFeature::kAlibi);
  needs(options.return_lse, AttentionFeature::kReturnLse);
  needs(options.return_weights, AttentionFeature::kReturnWeights);
  needs(v_BSKE.size(3) != q_BTHD.size(3), AttentionFeature::kValueDim);
  needs(wants_gradient(q_BTHD) || wants_gradient(k_BSKD) || wants_gradient(v_BSKE) ||
            wants_gradient(options.sinks_H),
        AttentionFeature::kGradient);
  needs(wants_gradient(options.bias_BHTS), AttentionFeature::kBiasGradient);
  needs(wants_gradient(options.alibi_slopes_H), AttentionFeature::kAlibiGradient);
  return request;
}

std::string why_not(const AttentionCapabilities& capabilities, const AttentionRequest& request) {
  if (!capabilities.devices.empty() && !contains(capabilities.devices, request.device)) {
    std::vector<std::string> names;
    for (const at::DeviceType device : capabilities.devices) {
      names.push_back(c10::DeviceTypeName(device, /*lower_case=*/true));
    }
    return c10::str("device: got tensors on ", c10::DeviceTypeName(request.device, true),
                    ", expected one of: ", c10::Join(", ", names));
  }
  if (!contains(capabilities.dtypes, request.dtype)) {
    return c10::str("dtype: got ", request.dtype,
                    ", expected one of: ", c10::Join(", ", capabilities.dtypes));
  }
  for (const AttentionFeature feature : request.features) {
    if (capabilities.has(feature)) continue;
    return c10::str(text_of(feature).field, ": ", reason_of(capabilities, feature));
  }
  return "";
}

}  // namespace tessera
