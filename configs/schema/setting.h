// A value that was given for a key, and where: what the readers hand to load_config. Internal to
// configs/.
//
//   for (const Setting& setting : read_toml(document, path)) {
//     setting.field->set(config, setting.value);
//     origins[setting.field->name()] = setting.origin;
//   }
//   const std::vector<std::string> warnings = validate(config, origins);
#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/schema/config_fields.h"

namespace tessera::configs {

struct Origin {
  enum class Source { kDefault, kToml, kCommandLine };  // in order of precedence
  Source source = Source::kDefault;
  std::string file;  // of kToml alone, as are line and column, which count from 1
  int64_t line = 0;
  int64_t column = 0;

  // The place for messages: "(line 12, column 9 of run.toml)", "(command line)" or "(default)".
  std::string text() const;
};

struct Setting {
  const Field* field = nullptr;  // of config_sections(), so it lives as long as the program
  ConfigValue value;
  Origin origin;
};

// Where each key's value comes from, by "section.key". Keys that nobody set are absent.
using Origins = std::map<std::string, Origin>;

// The origin of a key, kDefault when nobody set it.
Origin origin_of(const Origins& origins, const std::string& name);

// Throws ConfigError with the text "NAME: MESSAGE (ORIGIN)".
[[noreturn]] void throw_config_error(const std::string& name, const std::string& message,
                                     const Origin& origin);

// The settings of a TOML document, in its order. Throws ConfigError naming `path` and the place,
// for a document that is no TOML, an unknown section or key, and a value of a wrong type.
std::vector<Setting> read_toml(const std::string& document, const std::string& path);

// The settings of a command line, in its order, in the forms of load_config. Throws ConfigError for
// an unknown option and for a value that is missing or of a wrong type.
std::vector<Setting> read_overrides(const std::vector<std::string>& arguments);

// The end of a message about an unknown name: "did you mean X?", or what names there are. `section`
// is "" for a key outside of any.
std::string suggest_key(const std::string& section, const std::string& key);
std::string suggest_section(const std::string& name);
std::string suggest_option(const std::string& name);  // of the command line, without its "--"

// Checks every value by its field's rules, then values against each other. Adjusts what has one
// sensible reading (a warm-up longer than the run, one of two keys for one setting) and returns a
// sentence for each value that is adjusted or without effect; throws ConfigError for the rest.
std::vector<std::string> validate(JobConfig& config, const Origins& origins);

}  // namespace tessera::configs
