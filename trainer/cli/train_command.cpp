#include <iostream>
#include <stdexcept>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/interrupt.h"
#include "trainer/train_job.h"

namespace tessera {

namespace {

// How ranks are started is asked for, like the configuration.
Environment environment_of(const RankFlags& flags) {
  try {
    return read_environment(flags);
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
}

}  // namespace

int train_command(const std::string& config_path, const std::vector<std::string>& overrides,
                  const RankFlags& rank_flags) {
  const LoadedConfig loaded = load_config(config_path, overrides);
  for (const std::string& warning : loaded.warnings)
    std::cerr << "tessera: warning: " << warning << '\n';
  if (loaded.config.job.print_config) std::cout << to_toml(loaded.config);

  const InterruptGuard interrupt;
  TrainJob job(loaded.config, environment_of(rank_flags));
  const JobEnd end = job.run([&] { return interrupt.requested(); });
  return end == JobEnd::kInterrupted ? interrupt.exit_status() : kExitOk;
}

}  // namespace tessera
