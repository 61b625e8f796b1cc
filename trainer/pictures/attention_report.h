// What there is to choose from for `[model] attention` and `[model] mask`: the text and the JSON
// of `tessera attention`.
#pragma once

#include <string>

#include "trainer/support/extensions.h"

namespace tessera {

// A paragraph for each backend: name, aliases, description, mask form, dtypes, devices, options,
// arguments with their defaults; then mask forms and mask rules, a line each.
std::string attention_text(const Registries& registries);

// One object: backends (name, aliases, description, mask_form, dtypes, devices (empty: any),
// features, arguments), mask_forms and mask_rules (name, description; rules with parameters).
std::string attention_json(const Registries& registries);

}  // namespace tessera
