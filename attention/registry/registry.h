// AttentionRegistry: attention backends by name. A registry is a plain object that is passed to a
// model's constructor: there is no global one, so two models (or two ranks that are threads) may
// hold different ones. Ops that a registry has made do not depend on it any more.
//
//   AttentionRegistry registry = AttentionRegistry::with_builtins();
//   registry.add({.name = "mine", .description = "...", .function = my_attention});
//   AttentionOp op = registry.make("mine");
//
// Shape legend: as in attention/op/attention.h.
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
  // The backends "eager", "flex" and "sdpa". "flex_attention" is an alias of "flex", and so is
  // "flash_attention_2": Hugging Face's name for an exact kernel that never holds T x S scores,
  // which "flex" is on the CPU.
  static AttentionRegistry with_builtins();

  // Throws c10::Error when the name or an alias is not a word of letters, digits and "_" or is
  // taken, or the function is missing.
  void add(AttentionBackend backend);

  // Ops that are made after this call report each of their calls to `watch`.
  void set_watch(std::shared_ptr<AttentionWatch> watch) { watch_ = std::move(watch); }

  // Makes an op. choice: a name or alias, with arguments if the backend takes some:
  // "band(width=64)". Throws c10::Error that lists the names (or arguments) there are, and for a
  // choice by kind of layer.
  AttentionOp make(const std::string& choice) const;

  // Makes an op for each of a model's kinds of layer, by the kind's name. choices: "flex" or "flex,
  // sliding=band(width=64)" (attention_choice.h). Throws as make does, and when a kind is left
  // without an op, a choice names an unknown kind, or the ops want their masks built in different
  // forms, which one create_mask_fn cannot serve.
  std::map<std::string, AttentionOp> make_kinds(const std::string& choices,
                                                const std::vector<std::string>& kinds) const;

  // The form in which the backends of `choices` want their masks. Throws c10::Error for an unknown
  // backend, and when the forms differ.
  std::string mask_form(const std::string& choices) const;

  // The backend of this name or alias. Throws c10::Error that lists the names there are.
  const AttentionBackend& get(const std::string& name) const;

  // The names of the backends, without aliases, in the order in which they were added.
  std::vector<std::string> names() const;

 private:
  const std::shared_ptr<const AttentionBackend>* find(const std::string& name) const;
  std::shared_ptr<const AttentionBackend> shared(const std::string& name) const;
  AttentionOp bind(const std::string& name, const AttentionArgs& args) const;

  std::vector<std::shared_ptr<const AttentionBackend>> backends_;
  std::shared_ptr<AttentionWatch> watch_;
};

}  // namespace tessera
