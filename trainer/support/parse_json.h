// JSON files that users write.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tessera {

// Throws c10::Error naming the file, line, column and what is wrong there.
nlohmann::json parse_json(const std::string& text, const std::string& file_name);

// A value for an error message, nested ones by their type alone: printing recurses, and a file can
// nest deeper than the stack.
std::string shown(const nlohmann::json& value);

}  // namespace tessera
