// Mask rules and mask forms by name, where users add their own. A plain object that is passed down,
// as AttentionRegistry is.
//
// A *rule* is what a name in a rule string ("causal & dilated(step=3)") stands for. A *form* is how
// an attention backend wants a rule turned into its mask: "block" (the default) builds the exact
// block mask, "none" builds nothing at all for backends that know their pattern. docs/masks.md has
// an example of each.
//
//   MaskRegistry masks = MaskRegistry::with_builtins();
//   masks.add_rule({.name = "dilated", .parameters = {{"step"}}, .make = make_dilated});
//   MaskMod rule = parse_mask("causal & dilated(step=3)", {}, masks);
//   CreateMaskFn create_mask_fn = masks.create_mask_fn("block", model.mask_config());
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_config.h"
#include "attention/masks/mask_fn.h"
#include "attention/registry/mask_parser.h"

namespace tessera {

struct MaskParameter {
  std::string name;
  bool required = true;
};

// The arguments of one name in a rule string, checked against the rule's parameters.
struct MaskArguments {
  std::vector<MaskMod> rules{};  // one if the rule takes one, otherwise none
  MaskParams values{};           // the values that are given, in the order of the parameters

  // The value of a parameter, or nothing when the text does not give it.
  std::optional<int64_t> get(const std::string& name) const;
};

// A name that may stand in a rule string. `make` is called with checked arguments; a c10::Error
// that it throws is reported with the column of the name.
struct MaskRule {
  std::string name;                         // letters, digits and "_"
  std::string description{};                // one line, for listings
  std::vector<MaskParameter> parameters{};  // the integers that it takes, in order
  bool takes_rule = false;                  // whether a rule comes before the integers
  bool reads_context = false;               // whether `make` needs a context; without, not called
  std::function<MaskMod(const MaskArguments&, const MaskContext&)> make;
};

// A way to build masks. `build` is called once for each mask that a model asks for.
struct MaskForm {
  std::string name;           // letters, digits and "_"
  std::string description{};  // one line, for listings
  std::function<BlockMask(const MaskMod&, const MaskShape&, const MaskConfig&)> build;
};

class MaskRegistry {
 public:
  // The rules that mask_parser.h lists, and the forms "block" and "none".
  static MaskRegistry with_builtins();

  // Throw c10::Error when the name is not a word of letters, digits and "_" or is taken, or the
  // function is missing.
  void add_rule(MaskRule rule);
  void add_form(MaskForm form);

  // The form of this name. Throws c10::Error that lists the names there are.
  const MaskForm& form(const std::string& name) const;

  // The rule of this name, or null when there is none. Valid until the next add_rule.
  const MaskRule* find_rule(const std::string& name) const;

  // The function that a model is handed to build its masks with: the form, bound to the model's
  // configuration. Throws as form() does.
  CreateMaskFn create_mask_fn(const std::string& form_name, const MaskConfig& config) const;

  std::vector<std::string> rule_names() const;
  std::vector<std::string> form_names() const;

 private:
  std::vector<MaskRule> rules_;
  std::vector<MaskForm> forms_;
};

}  // namespace tessera
