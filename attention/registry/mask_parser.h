// Mask rules from text, for the command line and for `model.mask`:
//
//   rule     := term ('|' term)*
//   term     := factor ('&' factor)*
//   factor   := '~' factor | '(' rule ')' | name ['(' [argument (',' argument)*] ')']
//   argument := rule | [name '='] integer
//
//   causal & document & window(left=127)
//   (causal | block_ids) & per_document(chunked(size=8192))
//
// Names and their arguments are those of a MaskRegistry (mask_registry.h); the built-in ones are
// causal, full, none, window(left, right), chunked(size), first_tokens(n), offset(rule, q, kv),
// document, block_ids, key_padding, prefix_lm and per_document(rule). Rules that carry tensors take
// them from the context. parse_mask reads what MaskMod::to_string prints.
//
//   MaskMod rule = parse_mask("causal & document", {.document_ids_BT = ids_BT});
//
// Shape legend: B batch rows, T tokens of a row.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "attention/masks/mask_mod.h"

namespace tessera {

class MaskRegistry;

// The tensors that the rules of a text may ask for; undefined ones are not there. Dtypes, shapes
// and devices are those that the factories of attention/masks/mask_mod.h ask for.
struct MaskContext {
  at::Tensor document_ids_BT{};
  at::Tensor valid_BT{};
  at::Tensor block_ids_BT{};
  at::Tensor prefix_lengths_B{};
};

// The rule that the text says. Names are those of `registry`, by default the built-in ones. Throws
// c10::Error with the column, what was found there and what was expected; also when the context
// lacks a tensor that a rule needs, or a rule refuses its arguments.
MaskMod parse_mask(const std::string& text, const MaskContext& context);
MaskMod parse_mask(const std::string& text, const MaskContext& context,
                   const MaskRegistry& registry);

// Checks grammar, names and integers without any tensor, for the validation of a configuration.
// Throws as parse_mask does.
void check_mask_syntax(const std::string& text);
void check_mask_syntax(const std::string& text, const MaskRegistry& registry);

}  // namespace tessera
