// Attention backends by name. A registry is a plain object that is passed to a model's constructor:
// there is no global one, so two models (or two ranks that are threads) may hold different ones.
//
//   AttentionRegistry registry = AttentionRegistry::with_builtins();      // "eager", "sdpa"
//   registry.add({.name = "mine", .description = "...", .function = my_attention});
//   AttentionOp op = registry.make("mine");
#pragma once

#include <string>
#include <vector>

#include "attention/attention.h"

namespace tessera {

struct AttentionBackend {
  std::string name;
  std::string description;  // one line, for listings and the start banner
  AttentionFn function;
  std::string mask_form = "block";  // how its masks are built, a name in a MaskRegistry
};

class AttentionRegistry {
 public:
  static AttentionRegistry with_builtins();

  // Throws c10::Error when the name is empty or taken, or the function is missing.
  void add(AttentionBackend backend);

  // Throws c10::Error that lists the names there are.
  AttentionOp make(const std::string& name) const;
  const AttentionBackend& get(const std::string& name) const;

  std::vector<std::string> names() const;

 private:
  std::vector<AttentionBackend> backends_;
};

// The slow, obvious oracle: plain tensor operations on the dense mask. Supports every option and
// float64.
AttentionOutput eager_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                const at::Tensor& v_BSKE, const BlockMask& mask,
                                const AttentionOptions& options);

// Block-sparse attention on the CPU, forward and backward, for float32, bfloat16 and float16
// (computed in float32). Skips tiles without a pair; results do not depend on the number of
// threads. Refuses float64, return_weights, slopes with a gradient and other devices by name.
AttentionOutput flex_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options);

// LibTorch's scaled_dot_product_attention. Passes no tensor when the mask is exactly full or
// causal, otherwise the mask's additive form. Refuses soft_cap, sinks, ALiBi, return_lse and
// return_weights by name.
AttentionOutput sdpa_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options);

}  // namespace tessera
