// Shorthand for the configuration tests.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "configs/load_config.h"
#include "tests/support/temp_dir.h"

namespace tessera::testing {

// The message of the ConfigError that `statement` throws; "" when it throws nothing. Other
// exceptions pass through.
template <typename F>
std::string config_error_of(F&& statement) {
  try {
    statement();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

template <typename F>
void expect_config_error(F&& statement, std::initializer_list<std::string> parts, const char* file,
                         int line) {
  const std::string message = config_error_of(statement);
  if (message.empty()) ADD_FAILURE_AT(file, line) << "expected a ConfigError, got none";
  for (const std::string& part : parts) {
    if (message.find(part) == std::string::npos) {
      ADD_FAILURE_AT(file, line) << "expected \"" << part << "\" in the error:\n" << message;
    }
  }
}

// A file run.toml with this content, loaded with these overrides.
inline LoadedConfig load_text(const std::string& toml,
                              const std::vector<std::string>& overrides = {}) {
  const TempDir folder;
  return load_config(folder.write("run.toml", toml), overrides);
}

// Loads with dataset_path given, without which nothing loads.
inline LoadedConfig load_flags(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), {"--training.dataset_path", "data"});
  return load_config("", overrides);
}

}  // namespace tessera::testing

#define EXPECT_CONFIG_ERROR(statement, ...) \
  ::tessera::testing::expect_config_error([&] { statement; }, {__VA_ARGS__}, __FILE__, __LINE__)
