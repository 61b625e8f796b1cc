#include <iostream>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/interrupt.h"
#include "trainer/train_job.h"

namespace tessera {

int train_command(const std::string& config_path, const std::vector<std::string>& overrides) {
  const LoadedConfig loaded = load_config(config_path, overrides);
  for (const std::string& warning : loaded.warnings)
    std::cerr << "tessera: warning: " << warning << '\n';
  if (loaded.config.job.print_config) std::cout << to_toml(loaded.config);

  const InterruptGuard interrupt;
  TrainJob job(loaded.config, read_environment());
  const JobEnd end = job.run([&] { return interrupt.requested(); });
  return end == JobEnd::kInterrupted ? interrupt.exit_status() : kExitOk;
}

}  // namespace tessera
