#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/estimate.h"

namespace tessera {

int estimate_command(const std::string& config_path, const std::vector<std::string>& overrides,
                     const EstimateCommandOptions& options) {
  if (options.num_ranks < 1) {
    throw UsageError("--world: got " + std::to_string(options.num_ranks) +
                     ", expected a number of ranks from 1 on");
  }
  const LoadedConfig loaded = load_config(config_path, overrides);
  for (const std::string& warning : loaded.warnings) std::cerr << "warning: " << warning << '\n';
  const Estimate estimate = estimate_job(loaded.config, options.num_ranks);
  std::cout << (options.json ? estimate_json(estimate) : estimate_text(estimate));
  return kExitOk;
}

}  // namespace tessera
