// Internal to configs/. A value that was given for a key, and where: what the readers hand to load_config.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/schema/config_fields.h"

namespace tessera::configs {

struct Origin {
  enum class Source { kDefault, kToml, kCommandLine };  // in order of precedence
  Source source = Source::kDefault;
  std::string file;
  int64_t line = 0;
  int64_t column = 0;

  // "(line 12, column 9 of run.toml)", "(command line)", "(default)"
  std::string text() const;
};

struct Setting {
  const Field* field = nullptr;
  ConfigValue value;
  Origin origin;
};

// Where each key's value comes from, by "section.key"; keys that nobody set are absent.
using Origins = std::map<std::string, Origin>;

// The origin of a key, kDefault when nobody set it.
Origin origin_of(const Origins& origins, const std::string& name);

// Throws ConfigError: "NAME: MESSAGE (ORIGIN)".
[[noreturn]] void throw_config_error(const std::string& name, const std::string& message,
                                     const Origin& origin);

// Settings of a TOML document, in its order. `path` is named in errors.
std::vector<Setting> read_toml(const std::string& document, const std::string& path);

// Settings of a command line, in its order.
std::vector<Setting> read_overrides(const std::vector<std::string>& arguments);

// For an unknown name: "did you mean X?", or what names there are. `section` is "" for a key
// outside of any.
std::string suggest_key(const std::string& section, const std::string& key);
std::string suggest_section(const std::string& name);
std::string suggest_option(const std::string& name);  // of the command line, without its "--"

// Checks every value by its field's rules, then values against each other. Adjusts what has one
// sensible reading, with a sentence in the returned warnings; throws ConfigError for the rest.
std::vector<std::string> validate(JobConfig& config, const Origins& origins);

}  // namespace tessera::configs
