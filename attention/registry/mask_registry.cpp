#include "attention/registry/mask_registry.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <cctype>

#include "attention/block_mask/run_writer.h"

namespace tessera {

namespace {

const at::Tensor& required(const at::Tensor& tensor, const char* rule, const char* what) {
  TORCH_CHECK(tensor.defined(), "\"", rule, "\" needs ", what,
              ", which this context does not have");
  return tensor;
}

MaskRule constant(const char* name, const char* description, MaskMod (*leaf)()) {
  return {.name = name,
          .description = description,
          .make = [leaf](const MaskArguments&, const MaskContext&) { return leaf(); }};
}

// A leaf that is made of one tensor of the context.
MaskRule from_context(const char* name, const char* description, at::Tensor MaskContext::*tensor,
                      const char* what, MaskMod (*leaf)(const at::Tensor&)) {
  return {.name = name,
          .description = description,
          .reads_context = true,
          .make = [=](const MaskArguments&, const MaskContext& context) {
            return leaf(required(context.*tensor, name, what));
          }};
}

void add_index_rules(MaskRegistry& registry) {
  registry.add_rule(constant("causal", "keys up to the query", causal));
  registry.add_rule(constant("full", "every pair", full));
  registry.add_rule(constant("none", "no pair", none));
  registry.add_rule(
      {.name = "window",
       .description = "at most `left` tokens before the query and `right` after it",
       .parameters = {{.name = "left", .required = false}, {.name = "right", .required = false}},
       .make = [](const MaskArguments& arguments, const MaskContext&) {
         return sliding_window({.left = arguments.get("left"), .right = arguments.get("right")});
       }});
  registry.add_rule({.name = "chunked",
                     .description = "same chunk of `size` tokens",
                     .parameters = {{.name = "size"}},
                     .make = [](const MaskArguments& arguments, const MaskContext&) {
                       return chunked(*arguments.get("size"));
                     }});
  registry.add_rule({.name = "first_tokens",
                     .description = "keys of the first `n` tokens",
                     .parameters = {{.name = "n"}},
                     .make = [](const MaskArguments& arguments, const MaskContext&) {
                       return first_tokens(*arguments.get("n"));
                     }});
  registry.add_rule(
      {.name = "offset",
       .description = "a rule at indices shifted by `q` and `kv`",
       .parameters = {{.name = "q", .required = false}, {.name = "kv", .required = false}},
       .takes_rule = true,
       .make = [](const MaskArguments& arguments, const MaskContext&) {
         return offset(arguments.rules.front(), arguments.get("q").value_or(0),
                       arguments.get("kv").value_or(0));
       }});
}

void add_context_rules(MaskRegistry& registry) {
  registry.add_rule(from_context("document", "same document", &MaskContext::document_ids_BT,
                                 "document ids", document));
  registry.add_rule(from_context("block_ids", "same block, such as an image",
                                 &MaskContext::block_ids_BT, "block ids", block_ids));
  registry.add_rule(from_context("key_padding", "valid keys", &MaskContext::valid_BT,
                                 "a mask of valid tokens", key_padding));
  registry.add_rule(from_context("prefix_lm", "causal, and all see the prefix",
                                 &MaskContext::prefix_lengths_B, "prefix lengths", prefix_lm));
  registry.add_rule({.name = "per_document",
                     .description = "a rule counted from the start of each document",
                     .takes_rule = true,
                     .reads_context = true,
                     .make = [](const MaskArguments& arguments, const MaskContext& context) {
                       const at::Tensor& ids_BT =
                           required(context.document_ids_BT, "per_document", "document ids");
                       return per_document(arguments.rules.front(), ids_BT);
                     }});
}

// The mask of every pair, written down without asking the rule.
BlockMask unmasked(const MaskMod&, const MaskShape& shape, const MaskConfig&) {
  check_mask_shape(shape);
  RunWriter writer(shape);
  const int64_t num_rows =
      shape.batch * shape.heads * ((shape.q_len + shape.block.q - 1) / shape.block.q);
  const auto num_kv_blocks =
      static_cast<int32_t>((shape.kv_len + shape.block.kv - 1) / shape.block.kv);
  for (int64_t row = 0; row < num_rows; ++row) {
    writer.add_full(0, num_kv_blocks);
    writer.end_row();
  }
  return writer.finish({});
}

template <typename Entry>
std::vector<std::string> names_of(const std::vector<Entry>& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) names.push_back(entry.name);
  return names;
}

template <typename Entry>
void check_new(const char* caller, const std::vector<Entry>& entries, const std::string& name,
               bool has_function) {
  const bool is_word = std::all_of(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  TORCH_CHECK(!name.empty() && is_word, caller, ": name: got \"", name,
              "\", expected letters, digits and \"_\"");
  TORCH_CHECK(has_function, caller, ": function of \"", name, "\": got none");
  const std::vector<std::string> names = names_of(entries);
  TORCH_CHECK(std::find(names.begin(), names.end(), name) == names.end(), caller, ": name: got \"",
              name, "\", expected one that is not taken; there are: ", c10::Join(", ", names));
}

}  // namespace

std::optional<int64_t> MaskArguments::get(const std::string& name) const {
  for (const auto& [key, value] : values) {
    if (key == name) return value;
  }
  return std::nullopt;
}

MaskRegistry MaskRegistry::with_builtins() {
  MaskRegistry registry;
  add_index_rules(registry);
  add_context_rules(registry);
  registry.add_form({.name = "block",
                     .description = "the exact block mask of the rule",
                     .build = [](const MaskMod& rule, const MaskShape& shape, const MaskConfig&) {
                       return create_block_mask(rule, shape);
                     }});
  registry.add_form({.name = "none",
                     .description = "no mask is built; the backend knows its own pattern",
                     .build = unmasked});
  return registry;
}

void MaskRegistry::add_rule(MaskRule rule) {
  check_new("MaskRegistry::add_rule", rules_, rule.name, rule.make != nullptr);
  rules_.push_back(std::move(rule));
}

void MaskRegistry::add_form(MaskForm form) {
  check_new("MaskRegistry::add_form", forms_, form.name, form.build != nullptr);
  forms_.push_back(std::move(form));
}

const MaskForm& MaskRegistry::form(const std::string& name) const {
  for (const MaskForm& form : forms_) {
    if (form.name == name) return form;
  }
  C10_THROW_ERROR(Error, c10::str("mask form: got \"", name,
                                  "\", expected one of: ", c10::Join(", ", form_names())));
}

const MaskRule* MaskRegistry::find_rule(const std::string& name) const {
  for (const MaskRule& rule : rules_) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

CreateMaskFn MaskRegistry::create_mask_fn(const std::string& form_name,
                                          const MaskConfig& config) const {
  return [build = form(form_name).build, config](const MaskMod& rule, const MaskShape& shape) {
    return build(rule, shape, config);
  };
}

std::vector<std::string> MaskRegistry::rule_names() const { return names_of(rules_); }
std::vector<std::string> MaskRegistry::form_names() const { return names_of(forms_); }

}  // namespace tessera
