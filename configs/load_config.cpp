#include "configs/load_config.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "configs/schema/setting.h"

namespace tessera {

using configs::Origins;
using configs::Setting;

namespace {

constexpr auto kConfigFile = "job.config_file";

// A configuration is a few kilobytes; a larger file is something else given by mistake. The limit
// also bounds the stack: toml++ recurses once per part of a dotted key, and overflows 8 MB with
// 250,000 of them.
constexpr size_t kMaxFileBytes = 64 << 10;

std::string read_file(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw ConfigError(path + ": no such configuration file (working folder: " +
                      std::filesystem::current_path(error).string() +
                      "); the shipped ones are configs/*.toml of the repository");
  }
  if (std::filesystem::is_directory(status)) {
    throw ConfigError(path + ": expected a TOML file, got a folder");
  }
  std::ifstream file(path, std::ios::binary);
  std::string document;
  char buffer[4096];
  while (file.read(buffer, sizeof buffer) || file.gcount() > 0) {
    document.append(buffer, static_cast<size_t>(file.gcount()));
    if (document.size() > kMaxFileBytes) {
      throw ConfigError(path + ": expected a TOML file of at most 64 KiB, got a larger one");
    }
  }
  if (!file.eof()) throw ConfigError(path + ": the configuration file cannot be read");
  return document;
}

// The file to read: the caller's, or that of --job.config_file. Both may be given if they agree.
std::string choose_path(const std::string& toml_path, const std::vector<Setting>& overrides) {
  std::string path = toml_path;
  for (const Setting& setting : overrides) {
    if (setting.field->name() != kConfigFile) continue;
    const auto* given = std::get_if<std::string>(&setting.value);
    path = toml_path.empty() && given != nullptr ? *given : toml_path;
    if (given == nullptr || *given != path) {
      configs::throw_config_error(kConfigFile,
                                  "expected " + configs::quote_toml(toml_path) +
                                      ", the configuration file already "
                                      "given, got " +
                                      configs::to_toml_text(setting.value),
                                  setting.origin);
    }
  }
  return path;
}

void apply(const std::vector<Setting>& settings, JobConfig& config, Origins& origins) {
  for (const Setting& setting : settings) {
    setting.field->set(config, setting.value);
    origins[setting.field->name()] = setting.origin;
  }
}

}  // namespace

LoadedConfig load_config(const std::string& toml_path, const std::vector<std::string>& overrides) {
  const std::vector<Setting> command_line = configs::read_overrides(overrides);
  const std::string path = choose_path(toml_path, command_line);
  LoadedConfig loaded;
  Origins origins;
  if (!path.empty()) {
    loaded.config.job.config_file = path;
    apply(configs::read_toml(read_file(path), path), loaded.config, origins);
  }
  apply(command_line, loaded.config, origins);
  loaded.warnings = configs::validate(loaded.config, origins);
  return loaded;
}

}  // namespace tessera
