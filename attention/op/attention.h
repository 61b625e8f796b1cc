// The attention entry point: typed inputs, typed options, and the operator a layer owns.
//
//   AttentionOp attend = registry.make("sdpa");
//   AttentionOutput out = attend(q_BTHD, k_BSKD, v_BSKD, masks.at("global"), {.scale = 0.125});
//
// Score pipeline, the same in every backend:
//   s = scale * q.k ;  s = soft_cap * tanh(s / soft_cap) ;  s += bias + slope_h * (kv - q) ;  s =
//   -inf where masked out = sum_j exp(s_j - logaddexp(lse, sink_h)) v_j ;  lse = logsumexp_j(s_j),
//   natural log, without the sink
// Query head h reads key/value head h / (H / K). A query that may attend to nothing has out = 0,
// lse = -inf and gradient 0 in every backend.
//
// Shape legend: B batch, T query tokens, S key tokens, H query heads, K key/value heads (H % K ==
// 0), D head dim, E value head dim.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <any>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "attention/block_mask/block_mask.h"
#include "attention/op/attention_args.h"

namespace tessera {

struct AttentionOptions {
  std::optional<double> scale{};  // default 1 / sqrt(D)
  std::optional<double> soft_cap{};

  // Undefined tensors are options that are not used. All three are differentiable in a backend that
  // supports them.
  at::Tensor sinks_H{};         // learned logits that take part in the softmax only
  at::Tensor bias_BHTS{};       // added to the scores; each dimension may be 1
  at::Tensor alibi_slopes_H{};  // by query head

  bool return_lse = false;
  bool return_weights = false;

  // What else a registered function takes, by the names of its signature. They become the struct
  // that it declares, on top of the arguments the op was made with.
  AttentionArgs args{};
  std::any typed_args{};  // set by AttentionOp

  // For the function: its struct. Throws c10::Error when it declared another one, or none.
  template <typename Struct>
  const Struct& typed() const {
    const auto* args_struct = std::any_cast<Struct>(&typed_args);
    TORCH_CHECK(args_struct != nullptr, "AttentionOptions::typed: got a struct that the backend ",
                "did not declare as its signature (or a call that bypassed AttentionOp)");
    return *args_struct;
  }
};

struct AttentionOutput {
  at::Tensor out_BTHE{};  // dtype of q

  // float32 (float64 for float64 inputs), differentiable; only with return_lse / return_weights.
  at::Tensor lse_BHT{};
  at::Tensor weights_BHTS{};

  // Which of a backend's kernels ran, for logs; text that lives as long as the program.
  std::string_view kernel{};
};

using AttentionFn = std::function<AttentionOutput(
    const at::Tensor& q_BTHD, const at::Tensor& k_BSKD, const at::Tensor& v_BSKE,
    const BlockMask& mask, const AttentionOptions& options)>;

struct AttentionBinding;  // registry.h

// A backend ready to be called: what a layer owns as its `inner_attention`. Copies share one
// binding.
class AttentionOp {
 public:
  // Made by AttentionRegistry::make.
  explicit AttentionOp(std::shared_ptr<const AttentionBinding> binding);

  // A function outside of any registry, such as a wrapper around another op: it may be asked for
  // everything and refuses for itself.
  //
  // plan_kind: of the plans that the function reads (MaskPlan::kind), for operators that fetch keys
  // from elsewhere; such a function checks the mask's lengths itself.
  AttentionOp(std::string name, AttentionFn function, std::string plan_kind = "");

  const std::string& name() const;
  const std::string& mask_form() const;  // how the masks it is given must be built

  // Throws c10::Error, with the shapes got and expected, when inputs and mask do not fit together:
  // ranks, head counts, mask batch / heads neither 1 nor equal, mask lengths different from T and
  // S, mixed dtypes or devices; also when the mask carries a plan that is not of plan_kind, or no
  // plan where there must be one. Throws, naming backend, option, reason and the backends that
  // could, when this one cannot do the call.
  AttentionOutput operator()(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                             const at::Tensor& v_BSKE, const BlockMask& mask,
                             const AttentionOptions& options = {}) const;

 private:
  std::shared_ptr<const AttentionBinding> binding_;
  std::string plan_kind_;
};

}  // namespace tessera
