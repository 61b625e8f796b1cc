// Attention backends by name. A registry is a plain object that is passed to a model's constructor:
// there is no global one, so two models (or two ranks that are threads) may hold different ones.
//
//   AttentionRegistry registry = AttentionRegistry::with_builtins();
//   registry.add({.name = "mine", .description = "...", .function = my_attention});
//   AttentionOp op = registry.make("mine");
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/op/attention.h"
#include "attention/op/attention_args.h"
#include "attention/op/attention_watch.h"
#include "attention/op/capabilities.h"

namespace tessera {

struct AttentionBackend {
  std::string name;           // letters, digits and "_"
  std::string description{};  // one line, for listings and the start banner
  AttentionFn function;
  std::string mask_form = "block";  // how its masks are built, a name in a MaskRegistry
  AttentionCapabilities capabilities{};
  AttentionSignature signature{};      // the arguments it takes besides AttentionOptions
  std::vector<std::string> aliases{};  // other names for it
};

// What an AttentionOp is made of.
struct AttentionBinding {
  std::shared_ptr<const AttentionBackend> backend;
  AttentionArgs args{};   // given when it was made
  std::any typed_args{};  // the backend's struct made of them
  std::vector<std::shared_ptr<const AttentionBackend>> registered{};  // to name others that can
  std::shared_ptr<AttentionWatch> watch{};
};

class AttentionRegistry {
 public:
  // "eager", "flex" (also "flex_attention"), "sdpa". "flash_attention_2", Hugging Face's name for
  // an exact kernel that never holds T x S scores, is here "flex", which is that on the CPU.
  static AttentionRegistry with_builtins();

  // Throws c10::Error when a name is no word or is taken, or the function is missing.
  void add(AttentionBackend backend);

  // From here on ops tell `watch` of each call with a new kernel or new sizes.
  void set_watch(std::shared_ptr<AttentionWatch> watch) { watch_ = std::move(watch); }

  // choice: a name or alias, with arguments if the backend takes some: "band(width=64)". Throws
  // c10::Error that lists the names (or arguments) there are.
  AttentionOp make(const std::string& choice) const;

  // An op for each of a model's parts: "flex" or "flex, sliding=band(width=64)"
  // (attention_choice.h). Throws c10::Error when a part is left without one, is unknown, or the ops
  // want their masks built in different forms, which one create_mask_fn cannot serve.
  std::map<std::string, AttentionOp> make_parts(const std::string& choices,
                                                const std::vector<std::string>& parts) const;

  // The form in which the backends of `choices` want their masks. Throws as make_parts does.
  std::string mask_form(const std::string& choices) const;

  // By name or alias. Throws c10::Error that lists the names there are.
  const AttentionBackend& get(const std::string& name) const;

  // Without aliases, in the order in which they were added.
  std::vector<std::string> names() const;

 private:
  const std::shared_ptr<const AttentionBackend>* find(const std::string& name) const;
  std::shared_ptr<const AttentionBackend> shared(const std::string& name) const;
  AttentionOp bind(const std::string& name, const AttentionArgs& args) const;

  std::vector<std::shared_ptr<const AttentionBackend>> backends_;
  std::shared_ptr<AttentionWatch> watch_;
};

// The functions behind the built-in names; called through an AttentionOp, which checks inputs
// and capabilities. eager is the slow, obvious oracle: plain tensor operations on the dense mask.
AttentionOutput eager_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                                const at::Tensor& v_BSKE, const BlockMask& mask,
                                const AttentionOptions& options);

struct FlexArgs {
  // Multiply bfloat16 inputs as they are where the processor has instructions for it (AMX), which
  // rounds probabilities and score gradients to bfloat16. Otherwise, and on other processors, they
  // are computed as float32: a precision that does not depend on the processor.
  bool bf16_products = true;
};

// Block-sparse attention on the CPU, forward and backward; scores and sums are float32. Skips tiles
// without a pair; results do not depend on the number of threads.
AttentionOutput flex_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options, const FlexArgs& args = {});

// LibTorch's scaled_dot_product_attention. Passes no tensor when the mask is exactly full or
// causal, otherwise the mask's additive form.
AttentionOutput sdpa_attention(const at::Tensor& q_BTHD, const at::Tensor& k_BSKD,
                               const at::Tensor& v_BSKE, const BlockMask& mask,
                               const AttentionOptions& options);

}  // namespace tessera
