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
#include "attention/op/attention_watch.h"
#include "attention/op/backend.h"

namespace tessera {

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

  // An op for each of a model's kinds of layer: "flex" or "flex, sliding=band(width=64)"
  // (attention_choice.h). Throws c10::Error when a kind is left without one, is unknown, or the ops
  // want their masks built in different forms, which one create_mask_fn cannot serve.
  std::map<std::string, AttentionOp> make_kinds(const std::string& choices,
                                                const std::vector<std::string>& kinds) const;

  // The form in which the backends of `choices` want their masks. Throws as make_kinds does.
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

}  // namespace tessera
