#include "configs/schema/config_value.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace tessera::configs {

namespace {

constexpr size_t kBriefBytes = 60;

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 32> digits;
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  std::string text(digits.data(), end);
  if (const size_t exponent = text.find('e'); exponent != std::string::npos) {
    while (text[exponent + 2] == '0') text.erase(exponent + 2, 1);  // 8e-04 -> 8e-4
  }
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

template <typename Item, typename ToText>
std::string array_text(const std::vector<Item>& items, ToText to_text) {
  std::string text;
  for (const Item& item : items) text += (text.empty() ? "" : ", ") + to_text(item);
  return "[" + text + "]";
}

std::string escape(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  const auto byte = static_cast<unsigned char>(c);
  if (byte >= 0x20 && byte != 0x7f) return std::string(1, c);
  std::array<char, 8> code;
  std::snprintf(code.data(), code.size(), "\\u%04x", byte);
  return code.data();
}

struct TomlText {
  std::string operator()(std::monostate) const { return "none"; }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return float_text(value); }
  std::string operator()(const std::string& value) const { return quote_toml(value); }
  std::string operator()(const StringList& value) const { return array_text(value, quote_toml); }
  std::string operator()(const std::vector<StringList>& value) const {
    return array_text(value, [this](const StringList& list) { return (*this)(list); });
  }
};

// Length of the UTF-8 sequence that starts `text`, or 0: RFC 3629, so no overlong forms, surrogates
// or values past U+10FFFF.
size_t utf8_sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool overlong = first == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = first == 0xed && byte(1) > 0x9f;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool overlong = first == 0xf0 && byte(1) < 0x90;
    const bool too_large = first == 0xf4 && byte(1) > 0x8f;
    return continues(1) && continues(2) && continues(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string type_name(ValueType type) {
  switch (type) {
    case ValueType::kUnset:
      return "none";
    case ValueType::kBool:
      return "true or false";
    case ValueType::kInt:
      return "an integer";
    case ValueType::kFloat:
      return "a number";
    case ValueType::kString:
      return "a string";
    case ValueType::kStringList:
      return "a list of strings";
    case ValueType::kStringLists:
      return "a list of lists of strings";
  }
  return "";
}

std::string to_toml_text(const ConfigValue& value) { return std::visit(TomlText{}, value); }

std::string quote_toml(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += escape(c);
  return quoted + "\"";
}

std::string quote_briefly(std::string_view text) {
  if (text.size() <= kBriefBytes) return quote_toml(text);
  size_t end = kBriefBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;
  return quote_toml(text.substr(0, end)) + "...";
}

std::string list_values(const std::vector<ConfigValue>& values) {
  std::string text;
  for (const ConfigValue& value : values) text += (text.empty() ? "" : ", ") + to_toml_text(value);
  return text;
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace tessera::configs
