// What there is to choose from for `[model] attention` and `[model] mask`: the text and the JSON
// of `tessera attention`.
//
//   std::cout << attention_text(make_registries(custom_import));
#pragma once

#include <string>

#include "trainer/support/extensions.h"

namespace tessera {

// A paragraph for each backend: name, aliases, description, mask form, dtypes, devices, features,
// arguments with their defaults; then mask forms and mask rules, a line each.
std::string attention_text(const Registries& registries);

// One object on one line, with three lists:
//
//   backends     name, aliases, description, mask_form, dtypes, devices (empty: any), features,
//                arguments (value by name; null for a tensor)
//   mask_forms   name, description
//   mask_rules   name, description, takes_rule, parameters (name, required)
std::string attention_json(const Registries& registries);

}  // namespace tessera
