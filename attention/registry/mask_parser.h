// Rules from text, for the command line and for `model.mask`:
//
//   rule     := term ('|' term)*              term     := factor ('&' factor)*
//   factor   := '~' factor | '(' rule ')' | name ['(' [argument (',' argument)*] ')']
//   argument := rule | [name '='] integer
//
//   causal & document & window(left=127)
//   (causal | block_ids) & per_document(chunked(size=8192))
//
// Names and their arguments are those of a MaskRegistry (mask_registry.h); the built-in ones are
// causal, full, none, window(left, right), chunked(size), first_tokens(n), offset(rule, q, kv),
// document, block_ids, key_padding, prefix_lm and per_document(rule). Those that carry tensors take
// them from the context.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "attention/masks/mask_mod.h"

namespace tessera {

class MaskRegistry;

// Tensors that rules may ask for by name; undefined ones are not there. As in mask_mod.h.
struct MaskContext {
  at::Tensor document_ids_BT{};
  at::Tensor valid_BT{};
  at::Tensor block_ids_BT{};
  at::Tensor prefix_lengths_B{};
};

// Throws c10::Error with the column, what was found there and what was expected.
MaskMod parse_mask(const std::string& text, const MaskContext& context);
MaskMod parse_mask(const std::string& text, const MaskContext& context,
                   const MaskRegistry& registry);

// Checks grammar, names and integers without any tensor: what configuration validation calls.
// Throws as parse_mask does.
void check_mask_syntax(const std::string& text);
void check_mask_syntax(const std::string& text, const MaskRegistry& registry);

}  // namespace tessera
