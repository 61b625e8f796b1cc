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

struct LoadedConfig {
  JobConfig config;
  std::vector<std::string> warnings;  // what was adjusted or will have no effect; one sentence each
};

// toml_path: the file; when empty, --job.config_file of the overrides, or else the defaults alone.
// overrides: the raw arguments. `--section.key value` or `--section.key=value`; bools also as
// `--section.key` and
// `--section.no_key`; lists as comma strings; `none` unsets an optional key. The last of several
// wins. Throws ConfigError for a missing or malformed file, an unknown section or key (with the
// nearest name), a wrong type, a value out of range, a feature that does not exist yet, and values
// that contradict each other (all of them named).
LoadedConfig load_config(const std::string& toml_path, const std::vector<std::string>& overrides);

// The configuration as TOML, every key written out; load_config reads an equal JobConfig from it.
// Unset optional keys are comments; an unset job.config_file becomes the path of the file that is
// read. `tessera config --print` shows it and every run saves it.
std::string to_toml(const JobConfig& config);

// JSON Schema (2020-12) of the TOML file: `tessera config --schema`.
std::string schema_json();

// docs/configuration.md: `tessera config --markdown`.
std::string configuration_markdown();

}  // namespace tessera
