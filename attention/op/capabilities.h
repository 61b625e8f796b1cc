// The capabilities of attention backends as data: AttentionOp compares them with the needs of each
// call before the backend's function runs, and listings print them.
//
//   AttentionCapabilities can{.dtypes = {at::kFloat}, .features = {AttentionFeature::kSoftCap}};
//   why_not(can, request_of(q, k, v, options));   // "" or "options.sinks_H: not supported"
//
// Shape legend: as in attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct AttentionOptions;

// The abilities that not every backend has. kGradient is the gradient of q, k, v and sinks; the
// gradients of bias and slopes are features of their own.
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

// All features, in the order of the enumeration.
const std::vector<AttentionFeature>& all_attention_features();

// The feature's name in listings: "soft_cap", "value_dim", ...
const char* to_string(AttentionFeature feature);

// The capabilities of a backend. The defaults are those of a backend that declares nothing:
// float32, float64, bfloat16 and float16 on any device, with a gradient, and no option.
struct AttentionCapabilities {
  std::vector<at::ScalarType> dtypes{at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};
  std::vector<at::DeviceType> devices{};  // empty: any device
  std::vector<AttentionFeature> features{AttentionFeature::kGradient};

  // Why a feature is missing, for messages; "not supported" where no reason is given.
  std::vector<std::pair<AttentionFeature, std::string>> reasons{};

  bool has(AttentionFeature feature) const;
};

// The needs of one call.
struct AttentionRequest {
  at::ScalarType dtype = at::kFloat;
  at::DeviceType device = at::kCPU;
  std::vector<AttentionFeature> features{};
};

// The needs of a call with these inputs. Gradients count where a tensor requires one and grad mode
// is enabled.
AttentionRequest request_of(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                            const at::Tensor& v_BSKE, const AttentionOptions& options);

// Returns "" when the capabilities meet the request, else the first need that they do not meet
// (device, then dtype, then features) and the reason:
// "dtype: got Double, expected one of: Float, BFloat16, Half".
std::string why_not(const AttentionCapabilities& capabilities, const AttentionRequest& request);

}  // namespace tessera
