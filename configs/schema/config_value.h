// A configuration value whose type is known at run time: what the field table, the readers and the
// printers exchange. Internal to configs/.
//
//   const ConfigValue value = to_config_value(config.training.steps);
//   to_toml_text(value);   // "10000"
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "configs/job_config.h"

namespace tessera::configs {

// A value of any type that a key can have. std::monostate is an optional key that is unset.
using ConfigValue = std::variant<std::monostate, bool, int64_t, double, std::string, StringList,
                                 std::vector<StringList>>;

// The types in the order of ConfigValue's alternatives: type t is value.index() == t.
enum class ValueType { kUnset, kBool, kInt, kFloat, kString, kStringList, kStringLists };

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

// The value of a member of a section's struct; an empty optional gives std::monostate.
template <typename T>
ConfigValue to_config_value(const T& member) {
  if constexpr (IsOptional<T>::value) {
    return member ? ConfigValue(*member) : ConfigValue();
  } else {
    return ConfigValue(member);
  }
}

// Sets a member of a section's struct. Throws std::bad_variant_access for a value of another type.
template <typename T>
void assign_config_value(T& member, const ConfigValue& value) {
  if constexpr (IsOptional<T>::value) {
    if (std::holds_alternative<std::monostate>(value)) {
      member.reset();
    } else {
      member = std::get<typename T::value_type>(value);
    }
  } else {
    member = std::get<T>(value);
  }
}

// The name of a type in messages: "an integer", "true or false", "a list of strings", ...
std::string type_name(ValueType type);

// The value in TOML's notation: 8, 8e-4, "text", ["a", "b"]; `none` when unset. Doubles are in the
// fewest digits that read back to the same number, always with a point or an exponent.
std::string to_toml_text(const ConfigValue& value);

// `text` as a TOML basic string, with its quotes.
std::string quote_toml(std::string_view text);

// quote_toml of at most 60 bytes of `text`, for messages; "..." follows where it is cut.
std::string quote_briefly(std::string_view text);

// to_toml_text of every value, joined by commas.
std::string list_values(const std::vector<ConfigValue>& values);

bool is_valid_utf8(std::string_view text);

}  // namespace tessera::configs
