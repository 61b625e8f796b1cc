#include "attention/registry/registry.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cctype>

#include "attention/backends/eager_attention.h"
#include "attention/backends/flex/flex_attention.h"
#include "attention/backends/sdpa_attention.h"
#include "attention/registry/attention_choice.h"

namespace tessera {

namespace {

void check_word(const std::string& name) {
  const bool is_word = std::all_of(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  TORCH_CHECK(!name.empty() && is_word, "AttentionRegistry::add: name: got \"", name,
              "\", expected letters, digits and \"_\"");
}

// The choice for a kind: the one that names it, else the one that names none.
const AttentionChoice* choice_for(const std::vector<AttentionChoice>& choices,
                                  const std::string& kind) {
  const AttentionChoice* general = nullptr;
  for (const AttentionChoice& choice : choices) {
    if (choice.kind == kind) return &choice;
    if (choice.kind.empty()) general = &choice;
  }
  return general;
}

}  // namespace

AttentionRegistry AttentionRegistry::with_builtins() {
  AttentionRegistry registry;
  registry.add(eager_backend());
  registry.add(flex_backend());
  registry.add(sdpa_backend());
  return registry;
}

void AttentionRegistry::add(AttentionBackend backend) {
  std::vector<std::string> new_names = backend.aliases;
  new_names.insert(new_names.begin(), backend.name);
  for (const std::string& name : new_names) {
    check_word(name);
    TORCH_CHECK(find(name) == nullptr, "AttentionRegistry::add: name: got \"", name,
                "\", expected one that is not taken; there are: ", c10::Join(", ", names()));
  }
  TORCH_CHECK(backend.function != nullptr, "AttentionRegistry::add: function of \"", backend.name,
              "\": got none, expected an AttentionFn");
  backends_.push_back(std::make_shared<const AttentionBackend>(std::move(backend)));
}

const std::shared_ptr<const AttentionBackend>* AttentionRegistry::find(
    const std::string& name) const {
  for (const auto& backend : backends_) {
    const auto& aliases = backend->aliases;
    const bool is_alias = std::find(aliases.begin(), aliases.end(), name) != aliases.end();
    if (backend->name == name || is_alias) return &backend;
  }
  return nullptr;
}

std::shared_ptr<const AttentionBackend> AttentionRegistry::shared(const std::string& name) const {
  const auto* backend = find(name);
  TORCH_CHECK(backend != nullptr, "attention backend: got \"", name,
              "\", expected one of: ", c10::Join(", ", names()));
  return *backend;
}

const AttentionBackend& AttentionRegistry::get(const std::string& name) const {
  return *shared(name);
}

AttentionOp AttentionRegistry::bind(const std::string& name, const AttentionArgs& args) const {
  AttentionBinding binding{.backend = shared(name), .args = args};
  binding.typed_args = binding.backend->signature.bind(args, binding.backend->name);
  binding.registered = backends_;
  binding.watch = watch_;
  return AttentionOp(std::make_shared<const AttentionBinding>(std::move(binding)));
}

AttentionOp AttentionRegistry::make(const std::string& choice) const {
  const std::vector<AttentionChoice> choices = parse_attention_choices(choice);
  TORCH_CHECK(choices.size() == 1 && choices[0].kind.empty(), "attention: got \"", choice,
              "\", expected one backend for all kinds of layer");
  return bind(choices[0].name, choices[0].args);
}

std::map<std::string, AttentionOp> AttentionRegistry::make_kinds(
    const std::string& choices, const std::vector<std::string>& kinds) const {
  const std::vector<AttentionChoice> parsed = parse_attention_choices(choices);
  for (const AttentionChoice& choice : parsed) {
    const bool is_kind = std::find(kinds.begin(), kinds.end(), choice.kind) != kinds.end();
    TORCH_CHECK(choice.kind.empty() || is_kind, "attention \"", choices,
                "\": kind of layer: got \"", choice.kind,
                "\", expected one of the model's: ", c10::Join(", ", kinds));
  }
  mask_form(choices);
  std::map<std::string, AttentionOp> ops;
  for (const std::string& kind : kinds) {
    const AttentionChoice* choice = choice_for(parsed, kind);
    TORCH_CHECK(choice != nullptr, "attention \"", choices, "\": got no choice for kind \"", kind,
                "\", expected one for each of: ", c10::Join(", ", kinds));
    ops.emplace(kind, bind(choice->name, choice->args));
  }
  return ops;
}

std::string AttentionRegistry::mask_form(const std::string& choices) const {
  const std::vector<AttentionChoice> parsed = parse_attention_choices(choices);
  const AttentionBackend& first = get(parsed.front().name);
  for (const AttentionChoice& choice : parsed) {
    const AttentionBackend& backend = get(choice.name);
    TORCH_CHECK(backend.mask_form == first.mask_form, "attention \"", choices,
                "\": mask form: got \"", first.mask_form, "\" of ", first.name, " and \"",
                backend.mask_form, "\" of ", backend.name,
                ", expected one form for all kinds of layer of a model");
  }
  return first.mask_form;
}

std::vector<std::string> AttentionRegistry::names() const {
  std::vector<std::string> names;
  for (const auto& backend : backends_) names.push_back(backend->name);
  return names;
}

}  // namespace tessera
