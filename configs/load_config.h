// Reads a run's configuration: TorchTitan's TOML plus command-line overrides, checked before
// anything else happens.
//
//   LoadedConfig loaded = load_config("configs/llama3_debug.toml", {"--training.steps", "50"});
//   for (const std::string& warning : loaded.warnings) log_warning(warning);
//   train(loaded.config);
//
// Command line > TOML > default. The environment is never read.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "configs/job_config.h"

namespace tessera {

// The configuration cannot be used. The message names the key, what was got, what was expected and
// where it stands (line and column of the file, or the command line). The `tessera` command exits
// with status 2.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A configuration that has passed all checks of single keys and between keys. Only the number of
// ranks is not known to them.
struct LoadedConfig {
  JobConfig config;
  std::vector<std::string> warnings;  // what was adjusted or will have no effect; one sentence each
};

// toml_path: the file, of at most 64 KiB; when empty, --job.config_file of the overrides, or else
// the defaults alone. overrides: the raw arguments, of which the last for a key wins:
//
//   --section.key value      --section.key=value
//   --section.key            a bool becomes true
//   --section.no_key         a bool becomes false
//   --section.key a,b,c      a list of strings
//   --section.key none       an optional key is unset
//
// Throws ConfigError for a missing or malformed file, an unknown section or key (with the nearest
// name), a wrong type, a value out of range, a feature that is not supported, and values that
// contradict each other (all of them named).
LoadedConfig load_config(const std::string& toml_path, const std::vector<std::string>& overrides);

// The configuration as TOML, every key written out, one a line; load_config reads an equal
// JobConfig from it, but for an unset job.config_file, which becomes the path of the file that is
// read. Keys that are unset by default and in `config` are comments. `tessera config --print` shows
// the text and every run saves it.
std::string to_toml(const JobConfig& config);

// The JSON Schema (2020-12) of the TOML file, which `tessera config --schema` prints.
std::string schema_json();

// The text of docs/configuration.md, which `tessera config --markdown` prints.
std::string configuration_markdown();

}  // namespace tessera
