#include <c10/util/Logging.h>

#include <iostream>
#include <stdexcept>

#include "configs/load_config.h"
#include "trainer/cli/commands.h"
#include "trainer/job/interrupt.h"
#include "trainer/job/train_job.h"
#include "trainer/support/device.h"

namespace tessera {

namespace {

// The environment, whose errors are UsageErrors: how ranks are started is the user's choice, like
// the configuration.
Environment environment_of(const RankFlags& flags) {
  try {
    return read_environment(flags);
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
}

// Silences LibTorch's log on the CPU: c10d logs every failure, with call stacks, before it throws
// it, and our own error says it in a line. On GPUs the log stays: NCCL's watchdog has no other way
// to speak.
void set_torch_log(const Environment& environment) {
  if (wants_torch_log()) {
    c10::initLogging();
  } else if (choose_device(environment.local_rank).is_cpu()) {
    FLAGS_caffe2_log_level = c10::GLOG_FATAL;
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
  const Environment environment = environment_of(rank_flags);
  set_torch_log(environment);
  TrainJob job(loaded.config, environment);
  const JobEnd end = job.run([&] { return interrupt.requested(); });
  return end == JobEnd::kInterrupted ? interrupt.exit_status() : kExitOk;
}

}  // namespace tessera
