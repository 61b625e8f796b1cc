// The commands of the `tessera` program. Each returns an exit status: 0, 1 (the run failed), 2
// (usage or configuration), 128 + signal (interrupted: 130 for Ctrl-C). Errors are thrown and
// turned into a message and a status by main.
#pragma once

#include <string>
#include <vector>

namespace tessera {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// overrides: what followed --config on the command line, in the forms of configs/load_config.h.
int train_command(const std::string& config_path, const std::vector<std::string>& overrides);

enum class ConfigView { kPrint, kSchema, kMarkdown };
int config_command(ConfigView view, const std::string& config_path,
                   const std::vector<std::string>& overrides);

}  // namespace tessera
