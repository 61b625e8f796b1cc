// Shorthand for the configuration tests.
//
//   EXPECT_CONFIG_ERROR(load_flags({"--training.stesp", "5"}), "did you mean --training.steps?");
//   EXPECT_EQ(load_text("[training]\ndataset_path = \"data\"\n").config.training.steps, 10000);
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

// Fails the test at the given place unless `statement` throws a ConfigError with all `parts` in its
// message.
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

// Loads a file run.toml with this content and these overrides.
inline LoadedConfig load_text(const std::string& toml,
                              const std::vector<std::string>& overrides = {}) {
  const TempDir folder;
  return load_config(folder.write("run.toml", toml), overrides);
}

// Loads the overrides alone, with a dataset_path, without which nothing loads.
inline LoadedConfig load_flags(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), {"--training.dataset_path", "data"});
  return load_config("", overrides);
}

}  // namespace tessera::testing

#define EXPECT_CONFIG_ERROR(statement, ...) \
  ::tessera::testing::expect_config_error([&] { statement; }, {__VA_ARGS__}, __FILE__, __LINE__)
