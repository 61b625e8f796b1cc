// The attention entry point: typed inputs, typed options, and the operator that a layer owns.
//
//   AttentionOp attend = registry.make("sdpa");
//   AttentionOutput out = attend(q_BTHD, k_BSKD, v_BSKE, masks.at("global"), {.scale = 0.125});
//
// Every backend computes the following for query q and its keys j; a step whose option is not set
// is left out:
//
//   s_j  = scale * (q . k_j)
//   s_j  = soft_cap * tanh(s_j / soft_cap)
//   s_j += bias_j + slope_h * (j - q)
//   s_j  = -inf                                 where the mask does not allow the pair
//   lse  = log sum_j exp(s_j)                   natural logarithm, without the sink
//   w_j  = exp(s_j - logaddexp(lse, sink_h))    exp(s_j - lse) without sinks
//   out  = sum_j w_j v_j
//
// In the ALiBi term, j and q are rows of the call's own k and q. Query head h reads key/value head
// h / (H / K). A query that may attend to nothing has out = 0, lse = -inf and gradient 0 in every
// backend.
//
// Shape legend: B batch, T query tokens, S key tokens, H query heads, K key/value heads
// (H % K == 0), D head dim of q and k, E head dim of v.
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
  std::optional<double> scale{};     // finite; default 1 / sqrt(D)
  std::optional<double> soft_cap{};  // positive and finite

  // Undefined tensors are options that are not used; others are of any floating point type and on
  // the device of q. Which gradients a backend gives is said by its capabilities (capabilities.h).
  at::Tensor sinks_H{};         // learned logits that take part in the softmax only
  at::Tensor bias_BHTS{};       // added to the scores; each dimension may be 1
  at::Tensor alibi_slopes_H{};  // by query head

  bool return_lse = false;      // fills AttentionOutput::lse_BHT
  bool return_weights = false;  // fills AttentionOutput::weights_BHTS

  // Further arguments of a registered function, by the names of its signature. AttentionOp binds
  // them to the struct that the function declares, on top of the arguments the op was made with.
  AttentionArgs args{};
  std::any typed_args{};  // set by AttentionOp

  // The backend's struct of arguments, for the backend's function to read. Throws c10::Error when
  // the backend declared another struct, or none.
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

  // float32 (float64 for float64 inputs), differentiable; undefined unless return_lse or
  // return_weights asked for them. Rows of weights sum to less than 1 where there are sinks.
  at::Tensor lse_BHT{};
  at::Tensor weights_BHTS{};

  // The name of the backend's kernel that ran, for logs; it may be empty. The text lives as long as
  // the program.
  std::string_view kernel{};
};

// A backend's function. AttentionOp calls it after the checks that AttentionOp::operator() lists.
using AttentionFn = std::function<AttentionOutput(
    const at::Tensor& q_BTHD, const at::Tensor& k_BSKD, const at::Tensor& v_BSKE,
    const BlockMask& mask, const AttentionOptions& options)>;

struct AttentionBinding;  // registry.h

// A backend that is ready to be called, such as a layer owns as its `inner_attention`. Copies share
// one binding.
class AttentionOp {
 public:
  // Takes the binding of a registered backend; AttentionRegistry::make is the way to get one.
  explicit AttentionOp(std::shared_ptr<const AttentionBinding> binding);

  // Wraps a function outside of any registry, such as one around another op: it may be asked for
  // every option and refuses what it cannot do by itself. Throws c10::Error without a function.
  //
  // plan_kind: the kind of plan that masks must carry (MaskPlan::kind), for a function that fetches
  // keys from elsewhere. Such a function checks the mask's batch, heads and lengths itself. When it
  // is empty, masks must have no plan.
  AttentionOp(std::string name, AttentionFn function, std::string plan_kind = "");

  const std::string& name() const;
  const std::string& mask_form() const;  // the form (mask_registry.h) that its masks are built in

  // Throws c10::Error, with what it got and expected, when
  //   - q, k and v do not fit together: ranks, batch, lengths, head counts, head dims, dtype
  //     (one floating point type for all), device;
  //   - the mask does not fit: batch or heads neither 1 nor equal to B and H, lengths other than T
  //     and S, a plan that is not of plan_kind, or no plan where plan_kind asks for one;
  //   - an option has a wrong shape, dtype, device or value, or `args` a wrong name or type;
  //   - the backend cannot do the call: the message names backend, option, reason and the
  //     registered backends that can.
  AttentionOutput operator()(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                             const at::Tensor& v_BSKE, const BlockMask& mask,
                             const AttentionOptions& options = {}) const;

 private:
  std::shared_ptr<const AttentionBinding> binding_;
  std::string plan_kind_;
};

}  // namespace tessera
