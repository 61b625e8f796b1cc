// Turns command-line arguments into settings.
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "configs/load_config.h"
#include "configs/schema/setting.h"

namespace tessera::configs {

namespace {

Origin command_line() { return {Origin::Source::kCommandLine, "", 0, 0}; }

// The name without its "no_": "training.no_deterministic" gives "training.deterministic"; "" when
// there is no "no_" behind the last point.
std::string without_no(const std::string& name) {
  const size_t key = name.rfind('.') + 1;
  if (key == 0 || name.compare(key, 3, "no_") != 0) return "";
  return name.substr(0, key) + name.substr(key + 3);
}

// TorchTitan's command line also takes --job.config-file; no section or key has a hyphen in it.
std::string with_underscores(std::string name) {
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}

StringList split_at_commas(const std::string& text) {
  StringList items;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) items.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

[[noreturn]] void wrong_type(const Field& field, const std::string& text, const std::string& hint) {
  throw_config_error(field.name(),
                     "expected " + type_name(field.type) + hint + ", got " + quote_briefly(text),
                     command_line());
}

template <typename Number>
Number parse_number(const Field& field, const std::string& text) {
  Number number{};
  const char* const begin = text.data() + (text.size() > 1 && text[0] == '+' && text[1] != '-');
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(begin, end, number);
  if (error == std::errc::result_out_of_range) wrong_type(field, text, " that fits in 64 bits");
  if (error != std::errc() || stopped != end) wrong_type(field, text, "");
  return number;
}

bool parse_bool(const Field& field, const std::string& text) {
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  wrong_type(field, text, "");
}

ConfigValue parse_value(const Field& field, const std::string& text) {
  if (!is_valid_utf8(text)) wrong_type(field, text, " in UTF-8");
  if (field.optional && (text == "none" || text == "None")) return std::monostate{};
  switch (field.type) {
    case ValueType::kBool:
      return parse_bool(field, text);
    case ValueType::kInt:
      return parse_number<int64_t>(field, text);
    case ValueType::kFloat:
      return parse_number<double>(field, text);
    case ValueType::kString:
      return text;
    case ValueType::kStringList:
      return split_at_commas(text);
    default:
      break;
  }
  wrong_type(field, text, " (which only the TOML file can give)");
}

// Walks over the arguments, flag by flag.
class OverrideReader {
 public:
  explicit OverrideReader(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  std::vector<Setting> read() {
    std::vector<Setting> settings;
    while (next_ < arguments_.size()) settings.push_back(read_one());
    return settings;
  }

 private:
  Setting read_one() {
    const std::string& argument = arguments_[next_++];
    if (argument.rfind("--", 0) != 0 || argument.size() == 2) {
      throw ConfigError("unexpected argument " + quote_briefly(argument) +
                        "; overrides look like --section.key value (command line)");
    }
    const size_t equals = argument.find('=');
    const std::string name = with_underscores(argument.substr(2, equals - 2));
    if (equals != std::string::npos) {
      return read_assignment(name, argument.substr(equals + 1));
    }
    if (const Field* field = find_field(name)) return {field, read_value(*field), command_line()};
    if (const Field* field = find_switch(name)) return {field, false, command_line()};
    unknown(name);
  }

  static Setting read_assignment(const std::string& name, const std::string& text) {
    if (const Field* field = find_field(name)) {
      return {field, parse_value(*field, text), command_line()};
    }
    if (find_switch(name) != nullptr) {
      throw ConfigError("--" + name + ": takes no value, got " + quote_briefly(text) +
                        " (command line)");
    }
    unknown(name);
  }

  // The bool field that --section.no_key turns off.
  static const Field* find_switch(const std::string& name) {
    const Field* field = find_field(without_no(name));
    return field != nullptr && field->type == ValueType::kBool ? field : nullptr;
  }

  ConfigValue read_value(const Field& field) {
    const bool has_next = next_ < arguments_.size() && arguments_[next_].rfind("--", 0) != 0;
    if (!has_next && field.type == ValueType::kBool) return true;
    if (!has_next) {
      throw_config_error(field.name(), "expected " + type_name(field.type) + ", got no value",
                         command_line());
    }
    return parse_value(field, arguments_[next_++]);
  }

  [[noreturn]] static void unknown(const std::string& name) {
    throw ConfigError("--" + name.substr(0, 100) + ": unknown option; " + suggest_option(name) +
                      " (command line)");
  }

  const std::vector<std::string>& arguments_;
  size_t next_ = 0;
};

}  // namespace

std::vector<Setting> read_overrides(const std::vector<std::string>& arguments) {
  return OverrideReader(arguments).read();
}

}  // namespace tessera::configs
