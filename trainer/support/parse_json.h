// JSON files that users write, with errors that name the place. Internal to trainer/.
//
//   const nlohmann::json json = parse_json(text, "batch.json");
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tessera {

// The value that `text` holds; file_name is for messages. Throws c10::Error naming the file, line,
// column and what is wrong there.
nlohmann::json parse_json(const std::string& text, const std::string& file_name);

// `value` for an error message: a number, string, bool or null as JSON, a list or an object by its
// type alone, because printing recurses and a file can nest deeper than the stack.
std::string shown(const nlohmann::json& value);

}  // namespace tessera
