// Rules from text, for the command line and for `model.mask`:
//
//   rule   := term ('|' term)*          term := factor ('&' factor)*
//   factor := '~' factor | '(' rule ')' | name ['(' arguments ')']
//
// Names: causal, full, none, document. `document` takes its ids from the context. None of them
// takes arguments, so parentheses after a name must be empty.
#pragma once

#include <string>
#include <vector>

#include "attention/mask_mod.h"

namespace tessera {

struct MaskContext {
  at::Tensor document_ids_BT{};  // may be undefined when no rule asks for it
};

// Throws c10::Error with the column, what was found there and what was expected.
MaskMod parse_mask(const std::string& text, const MaskContext& context);

// Checks grammar and names without any tensor: what configuration validation calls. Throws as
// parse_mask does.
void check_mask_syntax(const std::string& text);

}  // namespace tessera
