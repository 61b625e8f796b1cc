// Turns a JobConfig into TOML.
#include <string>

#include "configs/load_config.h"
#include "configs/schema/config_fields.h"

namespace tessera {

using configs::ConfigSection;
using configs::ConfigValue;
using configs::Field;
using configs::to_toml_text;

namespace {

// TOML has no null. An unset key is left to its default when that is unset too, and else written as
// "none".
std::string line_of(const Field& field, const ConfigValue& value) {
  if (!std::holds_alternative<std::monostate>(value)) {
    return field.key + " = " + to_toml_text(value) + "\n";
  }
  if (value == field.default_value) return "# " + field.key + " = none\n";
  return field.key + " = \"none\"\n";
}

}  // namespace

std::string to_toml(const JobConfig& config) {
  std::string document;
  for (const ConfigSection& section : configs::config_sections()) {
    document += (document.empty() ? "[" : "\n[") + section.name + "]\n";
    for (const Field& field : section.fields) document += line_of(field, field.get(config));
  }
  return document;
}

}  // namespace tessera
