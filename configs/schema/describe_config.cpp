// The field table as JSON Schema and as a page of documentation.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "configs/load_config.h"
#include "configs/schema/config_fields.h"

namespace tessera {

using configs::config_sections;
using configs::ConfigSection;
using configs::ConfigValue;
using configs::Field;
using configs::list_values;
using configs::Range;
using configs::Support;
using configs::to_toml_text;
using configs::ValueType;

namespace {

using Json = nlohmann::ordered_json;

struct ToJson {
  Json operator()(std::monostate) const { return nullptr; }
  Json operator()(const auto& value) const { return value; }
};

Json json_of(const ConfigValue& value) { return std::visit(ToJson{}, value); }

Json string_schema(const Field& field) {
  Json schema = {{"type", "string"}};
  if (!field.choice_list.empty()) schema["enum"] = field.choice_list;
  if (field.refuses_empty) schema["minLength"] = 1;
  return schema;
}

Json number_schema(const Field& field) {
  Json schema = {{"type", field.type == ValueType::kInt ? "integer" : "number"}};
  if (!field.range) return schema;
  const Range& range = *field.range;
  const bool whole = field.type == ValueType::kInt;
  const auto bound = [whole](double number) {
    return whole ? Json(static_cast<int64_t>(number)) : Json(number);
  };
  if (range.low) schema[range.low_open ? "exclusiveMinimum" : "minimum"] = bound(*range.low);
  if (range.high) schema[range.high_open ? "exclusiveMaximum" : "maximum"] = bound(*range.high);
  if (range.also.empty()) return schema;
  return {{"anyOf", {schema, {{"enum", range.also}}}}};
}

Json value_schema(const Field& field) {
  const Json strings = {{"type", "array"}, {"items", string_schema(field)}};
  switch (field.type) {
    case ValueType::kBool:
      return {{"type", "boolean"}};
    case ValueType::kInt:
    case ValueType::kFloat:
      return number_schema(field);
    case ValueType::kStringList:
      return strings;
    case ValueType::kStringLists:
      return {{"type", "array"}, {"items", strings}};
    default:
      break;
  }
  if (field.joins_list) return {{"anyOf", {string_schema(field), strings}}};
  return string_schema(field);
}

Json field_schema(const Field& field) {
  Json schema = value_schema(field);
  if (field.optional) schema = {{"anyOf", {schema, {{"const", "none"}}}}};
  schema["description"] = field.doc;
  schema["default"] = json_of(field.default_value);
  if (field.support == Support::kLimited) {
    Json& supported = schema["x-supported"] = Json::array();
    for (const ConfigValue& value : field.supported_values) supported.push_back(json_of(value));
  }
  if (!field.reason.empty()) schema["x-reason"] = field.reason;
  return schema;
}

Json object_schema() {
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", Json::object()}};
}

// The schema of the section called "a.b" below `root`, made where it is missing.
Json& section_schema(Json& root, std::string_view name) {
  Json* schema = &root;
  while (!name.empty()) {
    const size_t point = std::min(name.find('.'), name.size());
    Json& properties = (*schema)["properties"];
    const std::string part(name.substr(0, point));
    if (!properties.contains(part)) properties[part] = object_schema();
    schema = &properties[part];
    name.remove_prefix(std::min(point + 1, name.size()));
  }
  return *schema;
}

std::string type_cell(const Field& field) {
  std::string text;
  switch (field.type) {
    case ValueType::kBool:
      text = "bool";
      break;
    case ValueType::kInt:
      text = "int";
      break;
    case ValueType::kFloat:
      text = "float";
      break;
    case ValueType::kStringList:
      text = "list of strings";
      break;
    case ValueType::kStringLists:
      text = "list of lists of strings";
      break;
    default:
      text = field.joins_list ? "string or list of strings" : "string";
      break;
  }
  return field.optional ? text + ", or none" : text;
}

std::string allowed_cell(const Field& field) {
  std::string text;
  for (const std::string& choice : field.choice_list) {
    text += (text.empty() ? "`" : ", `") + choice + "`";
  }
  if (field.range) text = field.range->text();
  if (field.refuses_empty) text = "not empty";
  return text;
}

std::string support_text(const Field& field) {
  if (field.support == Support::kInert) return " No effect: " + field.reason + ".";
  if (field.support == Support::kAll) return "";
  const std::string why = field.reason.empty() ? "" : " (" + field.reason + ")";
  return " **Supported today: `" + list_values(field.supported_values) + "`**" + why + ".";
}

std::string section_markdown(const ConfigSection& section) {
  std::string page = "\n## [" + section.name + "]\n\n" + section.doc + "\n\n";
  page += "| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n";
  for (const Field& field : section.fields) {
    page += "| `" + field.key + "` | " + type_cell(field) + " | `" +
            to_toml_text(field.default_value) + "` | " + allowed_cell(field) + " | " + field.doc +
            support_text(field) + " |\n";
  }
  return page;
}

constexpr std::string_view kIntroduction = R"(# Configuration

<!-- Generated by `tessera config --markdown > docs/configuration.md` from the field table. -->

A run is described by one TOML file and by overrides on the command line. Sections, keys, types and
defaults are those of TorchTitan v0.2.0 with the additions of v0.2.2; keys that are ours say
"Tessera". Precedence: command line, then file, then default. Nothing is read from the environment.

    tessera train --config configs/llama3_debug.toml --training.steps 50 --optimizer.lr=1e-3

- `--section.key value` or `--section.key=value`; of several for one key the last wins.
- A bool: `--section.key`, `--section.no_key`, `--section.key true` or `false`.
- A list: a comma string, `--compile.components model,loss`. The empty string is the empty list.
- A key whose type says "or none" is unset by `none` (in TOML: the string `"none"`).
- A value that begins with `--` needs the `=` form.

An unknown section or key, a wrong type and a value that is not allowed are errors with line and
column; the command exits with status 2 before any work. A key whose feature does not exist yet is
accepted at the values under "supported today" and refused otherwise. "No effect" means that any
allowed value is accepted, for the reason given.

Between keys:

- `training.dataset_path` is always needed.
- `training.global_batch_size` is a multiple of `local_batch_size` times the data-parallel degree.
- `lr_scheduler.total_steps` is at least `training.steps`.
- A warm-up longer than the schedule, and a decay longer than what the warm-up leaves of it, are
  shortened with a warning.
- `seed` and `deterministic` may stand in `[training]` or `[debug]`; the command line beats the
  file, and two different values of one source are an error.
- `checkpoint.initial_load_in_hf` needs `checkpoint.initial_load_path`; `initial_load_path` without
  `checkpoint.enable` has no effect and says so in a warning.

`tessera config --print` shows the resolved configuration, `tessera config --schema` the JSON Schema
of the file.
)";

}  // namespace

std::string schema_json() {
  Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
               {"title", "Tessera configuration"}};
  root.update(object_schema());
  for (const ConfigSection& section : config_sections()) {
    Json& schema = section_schema(root, section.name);
    schema["description"] = section.doc;
    for (const Field& field : section.fields) {
      schema["properties"][field.key] = field_schema(field);
    }
  }
  return root.dump(2) + "\n";
}

std::string configuration_markdown() {
  std::string page(kIntroduction);
  for (const ConfigSection& section : config_sections()) page += section_markdown(section);
  return page;
}

}  // namespace tessera
