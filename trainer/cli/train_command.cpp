// `tessera train`: trains a job on this rank (trainer/job/train_job.h).
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

struct TrainCommandOptions {
  std::string config_path;
  std::vector<std::string> overrides{};  // in the forms of load_config (configs/load_config.h)
  RankFlags ranks{};                     // without them the environment says which rank this is
};

void add_options(CommandLine& line, TrainCommandOptions& options) {
  line.add_option("--config,--job.config_file", &options.config_path, "TOML file of the job",
                  {.required = true});
  RankFlags& flags = options.ranks;
  OptionGroup ranks = line.add_group(
      "Ranks", "which of several processes this is, where no launcher says so by variables");
  ranks.add_option("--rank", &flags.rank, "0 to world size - 1", {.value = "N"});
  ranks.add_option("--world-size", &flags.world_size, "number of processes", {.value = "N"});
  ranks.add_option("--local-rank", &flags.local_rank, "rank among those of this machine",
                   {.value = "N"});
  ranks.add_option("--master-addr", &flags.master_address, "host of rank 0", {.value = "HOST"});
  ranks.add_option("--master-port", &flags.master_port, "port that rank 0 serves",
                   {.value = "PORT"});
  line.keep_unknown(&options.overrides);
  line.set_footer(
      "Any configuration key as an override: --training.steps 50, --metrics.log_freq=1, "
      "--checkpoint.enable.");
}

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

int run(const TrainCommandOptions& options) {
  const LoadedConfig loaded = load_config(options.config_path, options.overrides);
  for (const std::string& warning : loaded.warnings)
    std::cerr << "tessera: warning: " << warning << '\n';
  if (loaded.config.job.print_config) std::cout << to_toml(loaded.config);

  const InterruptGuard interrupt;
  const Environment environment = environment_of(options.ranks);
  set_torch_log(environment);
  TrainJob job(loaded.config, environment);
  const JobEnd end = job.run([&] { return interrupt.requested(); });
  return end == JobEnd::kInterrupted ? interrupt.exit_status() : kExitOk;
}

}  // namespace

Command train_command() { return make_command("train", "run a training job", add_options, run); }

}  // namespace tessera
