#include "trainer/support/parse_json.h"

#include <c10/util/Exception.h>

#include <nlohmann/json.hpp>

namespace tessera {

nlohmann::json parse_json(const std::string& text, const std::string& file_name) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string message = error.what();  // "[json.exception.parse_error.101] parse error at"
    C10_THROW_ERROR(Error, file_name + ": " + message.substr(message.find("] ") + 2));
  }
}

std::string shown(const nlohmann::json& value) {
  if (value.is_array()) return "a list";
  return value.is_object() ? "an object" : value.dump();
}

}  // namespace tessera
