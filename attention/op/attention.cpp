// Shape legend: as in attention.h.
#include "attention/op/attention.h"

#include <c10/util/Exception.h>

#include <cmath>

#include "attention/op/backend.h"
#include "attention/op/capabilities.h"

namespace tessera {

namespace {

void check_shapes(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD, const at::Tensor& v_BSKE) {
  TORCH_CHECK(q_BTHD.defined() && k_BSKD.defined() && v_BSKE.defined(),
              "attention: got an undefined q, k or v, expected three tensors");
  TORCH_CHECK(q_BTHD.dim() == 4 && k_BSKD.dim() == 4 && v_BSKE.dim() == 4, "attention: got q ",
              q_BTHD.sizes(), ", k ", k_BSKD.sizes(), ", v ", v_BSKE.sizes(),
              ", expected q [B, T, H, D], k [B, S, K, D], v [B, S, K, E]");
  const bool same_batch = q_BTHD.size(0) == k_BSKD.size(0) && k_BSKD.size(0) == v_BSKE.size(0);
  TORCH_CHECK(same_batch, "attention: batch: got q ", q_BTHD.sizes(), ", k ", k_BSKD.sizes(),
              ", v ", v_BSKE.sizes(), ", expected equal first dimensions");
  TORCH_CHECK(k_BSKD.size(1) == v_BSKE.size(1) && k_BSKD.size(2) == v_BSKE.size(2),
              "attention: keys and values: got k ", k_BSKD.sizes(), ", v ", v_BSKE.sizes(),
              ", expected equal lengths and head counts");
  TORCH_CHECK(q_BTHD.size(3) == k_BSKD.size(3), "attention: head dim: got q ", q_BTHD.sizes(),
              ", k ", k_BSKD.sizes(), ", expected equal last dimensions");
  TORCH_CHECK(k_BSKD.size(2) > 0 && q_BTHD.size(2) % k_BSKD.size(2) == 0, "attention: heads: got ",
              q_BTHD.size(2), " query heads and ", k_BSKD.size(2),
              " key heads, expected a multiple");
}

void check_types(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD, const at::Tensor& v_BSKE) {
  TORCH_CHECK(
      q_BTHD.scalar_type() == k_BSKD.scalar_type() && k_BSKD.scalar_type() == v_BSKE.scalar_type(),
      "attention: dtype: got q ", q_BTHD.scalar_type(), ", k ", k_BSKD.scalar_type(), ", v ",
      v_BSKE.scalar_type(), ", expected one for all");
  TORCH_CHECK(q_BTHD.is_floating_point(), "attention: dtype: got ", q_BTHD.scalar_type(),
              ", expected a floating point one");
  TORCH_CHECK(q_BTHD.device() == k_BSKD.device() && k_BSKD.device() == v_BSKE.device(),
              "attention: device: got q on ", q_BTHD.device(), ", k on ", k_BSKD.device(),
              ", v on ", v_BSKE.device(), ", expected one for all");
}

void check_plan(const std::string& op, const std::string& kind, const MaskPlan* plan) {
  TORCH_CHECK(plan != nullptr || kind.empty(), "attention \"", op,
              "\": mask: got one without a plan, expected one with a ", kind, " plan");
  if (plan == nullptr) return;
  TORCH_CHECK(
      plan->kind() == kind, "attention \"", op, "\": mask: got one with a ", plan->kind(),
      " plan (", plan->to_string(), "), expected ",
      kind.empty() ? "one without: wrap the operator for it" : c10::str("a ", kind, " plan"));
}

void check_mask(const MaskShape& mask, const at::Tensor& q_BTHD, const at::Tensor& k_BSKD) {
  TORCH_CHECK(mask.q_len == q_BTHD.size(1) && mask.kv_len == k_BSKD.size(1),
              "attention: mask lengths: got q_len ", mask.q_len, ", kv_len ", mask.kv_len,
              ", expected ", q_BTHD.size(1), " and ", k_BSKD.size(1), " of q ", q_BTHD.sizes(),
              " and k ", k_BSKD.sizes());
  TORCH_CHECK(mask.batch == 1 || mask.batch == q_BTHD.size(0), "attention: mask batch: got ",
              mask.batch, ", expected 1 or ", q_BTHD.size(0), " of q ", q_BTHD.sizes());
  TORCH_CHECK(mask.heads == 1 || mask.heads == q_BTHD.size(2), "attention: mask heads: got ",
              mask.heads, ", expected 1 or ", q_BTHD.size(2), " of q ", q_BTHD.sizes());
}

void check_option(const char* name, const at::Tensor& value, at::IntArrayRef expected,
                  const at::Tensor& q_BTHD) {
  if (!value.defined()) return;
  bool fits = value.dim() == static_cast<int64_t>(expected.size());
  const bool may_broadcast = expected.size() == 4;  // only the bias
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    fits = value.size(i) == expected[i] || (may_broadcast && value.size(i) == 1);
  }
  TORCH_CHECK(fits, "attention: options.", name, ": got shape ", value.sizes(), ", expected ",
              expected, may_broadcast ? " (each dimension may be 1)" : "");
  TORCH_CHECK(value.is_floating_point() && value.device() == q_BTHD.device(), "attention: options.",
              name, ": got ", value.scalar_type(), " on ", value.device(),
              ", expected a floating point tensor on ", q_BTHD.device());
}

void check_options(const AttentionOptions& options, const at::Tensor& q_BTHD, int64_t kv_len) {
  TORCH_CHECK(!options.scale || std::isfinite(*options.scale), "attention: options.scale: got ",
              *options.scale, ", expected a finite number");
  TORCH_CHECK(!options.soft_cap || (std::isfinite(*options.soft_cap) && *options.soft_cap > 0),
              "attention: options.soft_cap: got ", *options.soft_cap,
              ", expected a positive number");
  const int64_t num_heads = q_BTHD.size(2);
  check_option("sinks_H", options.sinks_H, {num_heads}, q_BTHD);
  check_option("alibi_slopes_H", options.alibi_slopes_H, {num_heads}, q_BTHD);
  check_option("bias_BHTS", options.bias_BHTS, {q_BTHD.size(0), num_heads, q_BTHD.size(1), kv_len},
               q_BTHD);
}

// Names the registered backends that can do the call on masks of the same form, for messages:
// use "eager" or "flex".
std::string backends_that_can(const AttentionBinding& binding, const AttentionRequest& request) {
  std::string names;
  for (const auto& other : binding.registered) {
    const bool can = other->mask_form == binding.backend->mask_form &&
                     why_not(other->capabilities, request).empty();
    if (can) names += (names.empty() ? "\"" : " or \"") + other->name + "\"";
  }
  return names.empty() ? "no registered backend can" : "use " + names;
}

void check_supported(const AttentionBinding& binding, const AttentionRequest& request) {
  const std::string reason = why_not(binding.backend->capabilities, request);
  TORCH_CHECK(reason.empty(), "attention backend \"", binding.backend->name, "\": ", reason, "; ",
              backends_that_can(binding, request));
}

AttentionOutput call(const AttentionBinding& binding, const at::Tensor& q_BTHD,
                     const at::Tensor& k_BSKD, const at::Tensor& v_BSKE, const BlockMask& mask,
                     const AttentionOptions& options) {
  const AttentionBackend& backend = *binding.backend;
  const bool takes_args = binding.typed_args.has_value();
  if (!takes_args && options.args.empty()) {
    return backend.function(q_BTHD, k_BSKD, v_BSKE, mask, options);
  }
  AttentionOptions with_args = options;
  with_args.typed_args = binding.typed_args;
  if (!options.args.empty()) {
    AttentionArgs args = binding.args;
    args.insert(args.end(), options.args.begin(), options.args.end());
    with_args.typed_args = backend.signature.bind(args, backend.name);
  }
  return backend.function(q_BTHD, k_BSKD, v_BSKE, mask, with_args);
}

std::shared_ptr<const AttentionBinding> bind_alone(std::string name, AttentionFn function) {
  TORCH_CHECK(function != nullptr, "AttentionOp \"", name, "\": got no function, expected one");
  const auto backend = std::make_shared<const AttentionBackend>(
      AttentionBackend{.name = std::move(name),
                       .function = std::move(function),
                       .capabilities = {.features = all_attention_features()}});
  return std::make_shared<const AttentionBinding>(AttentionBinding{.backend = backend});
}

}  // namespace

AttentionOp::AttentionOp(std::shared_ptr<const AttentionBinding> binding)
    : binding_(std::move(binding)) {}

AttentionOp::AttentionOp(std::string name, AttentionFn function, std::string plan_kind)
    : binding_(bind_alone(std::move(name), std::move(function))),
      plan_kind_(std::move(plan_kind)) {}

const std::string& AttentionOp::name() const { return binding_->backend->name; }
const std::string& AttentionOp::mask_form() const { return binding_->backend->mask_form; }

AttentionOutput AttentionOp::operator()(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                        const at::Tensor& v_BSKE, const BlockMask& mask,
                                        const AttentionOptions& options) const {
  check_shapes(q_BTHD, k_BSKD, v_BSKE);
  check_types(q_BTHD, k_BSKD, v_BSKE);
  check_plan(name(), plan_kind_, mask.plan().get());
  if (plan_kind_.empty()) check_mask(mask.shape(), q_BTHD, k_BSKD);
  check_options(options, q_BTHD, mask.shape().kv_len);
  check_supported(*binding_, request_of(q_BTHD, k_BSKD, v_BSKE, options));
  AttentionOutput output = call(*binding_, q_BTHD, k_BSKD, v_BSKE, mask, options);
  if (binding_->watch) {
    binding_->watch->saw({.backend = name(),
                          .kernel = std::string(output.kernel),
                          .q_sizes = q_BTHD.sizes().vec(),
                          .k_sizes = k_BSKD.sizes().vec(),
                          .v_sizes = v_BSKE.sizes().vec(),
                          .dtype = q_BTHD.scalar_type()});
  }
  return output;
}

}  // namespace tessera
