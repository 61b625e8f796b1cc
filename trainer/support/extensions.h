// The registries of a run: the attention backends, mask rules, mask forms and tokenizers that are
// built in, and those that the shared libraries of `experimental.custom_import` add
// (models/extension.h).
//
//   Registries registries = make_registries(config.experimental.custom_import);
//   auto model = make_model(request, registries.attention);
#pragma once

#include <string>

#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"
#include "data/tokenizers/open_tokenizer.h"

namespace tessera {

// A run has registries of its own; nothing is global.
struct Registries {
  AttentionRegistry attention = AttentionRegistry::with_builtins();
  MaskRegistry masks = MaskRegistry::with_builtins();
  TokenizerRegistry tokenizers = TokenizerRegistry::with_builtins();
};

// custom_import: paths of shared libraries, separated by commas; empty: none. A relative path is
// relative to the working directory. A library stays loaded until the program ends. Throws
// c10::Error naming experimental.custom_import, the file, and what is wrong: no such file, the
// loader's message, a missing entry point, a library built for another version (ExtensionAbi), or
// what the extension itself threw.
Registries make_registries(const std::string& custom_import);

}  // namespace tessera
