// What attention backends can do, as data: one place compares it with what a call asks for, before
// the backend's function runs, and listings print it.
//
//   AttentionCapabilities can{.dtypes = {at::kFloat}, .features = {AttentionFeature::kSoftCap}};
//   why_not(can, request_of(q, k, v, options));   // "" or "options.sinks_H: not supported"
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct AttentionOptions;

// What not every backend can do. The gradient of sinks comes with kGradient.
enum class AttentionFeature {
  kSoftCap,
  kSinks,
  kBias,
  kAlibi,
  kReturnLse,
  kReturnWeights,
  kValueDim,  // a head dim of v other than that of q and k
  kGradient,
  kBiasGradient,
  kAlibiGradient,
};

// All of them, in the order above.
const std::vector<AttentionFeature>& all_attention_features();

// For listings: "soft_cap", "value_dim", ...
const char* to_string(AttentionFeature feature);

// A backend that says nothing takes any dtype and device, has a gradient, and supports no option.
struct AttentionCapabilities {
  std::vector<at::ScalarType> dtypes{at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};
  std::vector<at::DeviceType> devices{};  // none: any
  std::vector<AttentionFeature> features{AttentionFeature::kGradient};

  // Why a feature is not there, for messages.
  std::vector<std::pair<AttentionFeature, std::string>> reasons{};

  bool has(AttentionFeature feature) const;
};

// What one call needs.
struct AttentionRequest {
  at::ScalarType dtype = at::kFloat;
  at::DeviceType device = at::kCPU;
  std::vector<AttentionFeature> features{};
};

AttentionRequest request_of(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                            const at::Tensor& v_BSKE, const AttentionOptions& options);

// Empty when the backend can do it; else the first thing it cannot do and the reason:
// "dtype: got Double, expected one of: Float, BFloat16, Half".
std::string why_not(const AttentionCapabilities& capabilities, const AttentionRequest& request);

}  // namespace tessera
