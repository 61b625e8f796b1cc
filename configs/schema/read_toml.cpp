// Turns a TOML document into settings. The only file that sees toml++.
#include <algorithm>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "configs/load_config.h"
#include "configs/schema/setting.h"
#include "configs/schema/toml_plus_plus.h"

namespace tessera::configs {

namespace {

// Names the value that was got, for messages.
std::string describe(const toml::node& node) {
  if (const auto* text = node.as_string()) return "string " + quote_briefly(text->get());
  if (const auto* number = node.as_integer()) return "integer " + std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) {
    return "number " + to_toml_text(ConfigValue(number->get()));
  }
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  if (node.is_array()) return "a list";
  if (node.is_table()) return "a section";
  return "a date or time";
}

class TomlReader {
 public:
  explicit TomlReader(std::string path) : path_(std::move(path)) {}

  std::vector<Setting> read(const toml::table& root) {
    read_section("", root);
    return std::move(settings_);
  }

 private:
  Origin origin(const toml::source_region& region) const {
    return {Origin::Source::kToml, path_, static_cast<int64_t>(region.begin.line),
            static_cast<int64_t>(region.begin.column)};
  }

  void read_section(const std::string& section, const toml::table& table) {
    for (const auto& [key, node] : in_document_order(table)) {
      const std::string name = (section.empty() ? "" : section + ".") + std::string(key->str());
      if (!is_section(name)) {
        read_key(section, std::string(key->str()), *node, origin(key->source()));
      } else if (const toml::table* inner = node->as_table()) {
        read_section(name, *inner);
      } else {
        throw_config_error(name, "expected a section, got " + describe(*node),
                           origin(key->source()));
      }
    }
  }

  // toml++ sorts by name; the first error of a file should be the one that stands first.
  static std::vector<std::pair<const toml::key*, const toml::node*>> in_document_order(
      const toml::table& table) {
    std::vector<std::pair<const toml::key*, const toml::node*>> entries;
    for (auto&& [key, node] : table) entries.emplace_back(&key, &node);
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.first->source().begin < b.first->source().begin;
    });
    return entries;
  }

  // Whether `name` is a section of the table, or the beginning of one ("quantize.linear").
  static bool is_section(const std::string& name) {
    for (const ConfigSection& section : config_sections()) {
      if (section.name == name || section.name.rfind(name + ".", 0) == 0) return true;
    }
    return false;
  }

  void read_key(const std::string& section, const std::string& key, const toml::node& node,
                const Origin& at) {
    const std::string name = section.empty() ? key : section + "." + key;
    if (const Field* field = section.empty() ? nullptr : find_field(name)) {
      settings_.push_back({field, read_value(*field, node), origin(node.source())});
      return;
    }
    if (node.is_table()) throw_config_error(name, "unknown section; " + suggest_section(name), at);
    if (section.empty()) {
      throw_config_error(name, "stands outside of any section; " + suggest_key("", key), at);
    }
    throw_config_error(name, "unknown key; " + suggest_key(section, key), at);
  }

  ConfigValue read_value(const Field& field, const toml::node& node) const {
    const auto* text = node.as_string();
    if (field.optional && text != nullptr && text->get() == "none") return std::monostate{};
    switch (field.type) {
      case ValueType::kBool:
        if (const auto* flag = node.as_boolean()) return flag->get();
        break;
      case ValueType::kInt:
        if (const auto* number = node.as_integer()) return number->get();
        break;
      case ValueType::kFloat:
        if (const auto* number = node.as_floating_point()) return number->get();
        if (const auto* number = node.as_integer()) return static_cast<double>(number->get());
        break;
      case ValueType::kString:
        if (text != nullptr) return text->get();
        if (field.joins_list && node.is_array()) return join_list(field, *node.as_array());
        break;
      case ValueType::kStringList:
        if (node.is_array()) return read_list(field, *node.as_array());
        break;
      case ValueType::kStringLists:
        if (node.is_array()) return read_lists(field, *node.as_array());
        break;
      case ValueType::kUnset:
        break;
    }
    wrong_type(field, node);
  }

  StringList read_list(const Field& field, const toml::array& array) const {
    StringList list;
    for (const toml::node& item : array) {
      if (!item.is_string()) wrong_type(field, item);
      list.push_back(item.as_string()->get());
    }
    return list;
  }

  std::vector<StringList> read_lists(const Field& field, const toml::array& array) const {
    std::vector<StringList> lists;
    for (const toml::node& item : array) {
      if (!item.is_array()) wrong_type(field, item);
      lists.push_back(read_list(field, *item.as_array()));
    }
    return lists;
  }

  std::string join_list(const Field& field, const toml::array& array) const {
    std::string joined;
    for (const std::string& item : read_list(field, array)) {
      if (item.empty() || item.find(',') != std::string::npos) {
        throw_config_error(
            field.name(),
            "expected list items that are not empty and have no comma, got " + quote_briefly(item),
            origin(array.source()));
      }
      joined += (joined.empty() ? "" : ",") + item;
    }
    return joined;
  }

  [[noreturn]] void wrong_type(const Field& field, const toml::node& node) const {
    const std::string or_list = field.joins_list ? " or a list of strings" : "";
    throw_config_error(field.name(),
                       "expected " + type_name(field.type) + or_list + ", got " + describe(node),
                       origin(node.source()));
  }

  std::string path_;
  std::vector<Setting> settings_;
};

}  // namespace

std::vector<Setting> read_toml(const std::string& document, const std::string& path) {
  try {
    return TomlReader(path).read(toml::parse(document, path));
  } catch (const toml::parse_error& error) {
    std::ostringstream message;
    message << path << ": line " << error.source().begin.line << ", column "
            << error.source().begin.column << ": not valid TOML: " << error.description();
    throw ConfigError(message.str());
  }
}

}  // namespace tessera::configs
