// `tessera launch`: starts the ranks of this machine and waits for them
// (trainer/launch/launcher.h). Node 0 serves the store at which they meet.
#include <filesystem>
#include <optional>

#include "trainer/cli/commands.h"
#include "trainer/launch/environment.h"
#include "trainer/launch/launcher.h"
#include "trainer/launch/store_server.h"

namespace tessera {
namespace {

struct LaunchCommandOptions {
  int64_t nproc = 1;  // ranks of this machine
  int64_t max_restarts = 0;
  int64_t nnodes = 1;  // machines
  int64_t node_rank = 0;
  std::optional<std::string> master_address{};  // of node 0; 127.0.0.1 with one node
  int64_t master_port = 0;                      // 0: any free one, with one node only
  std::vector<std::string> command{};           // of this program, such as train --config ...
};

void add_options(CommandLine& line, LaunchCommandOptions& options) {
  line.add_option("--nproc", &options.nproc, "processes of this machine",
                  {.value = "N", .required = true});
  line.add_option("--max-restarts", &options.max_restarts,
                  "how often all start anew after one has failed; 0", {.value = "K"});
  line.add_option("--nnodes", &options.nnodes, "machines, each with a launcher; 1", {.value = "N"});
  line.add_option("--node-rank", &options.node_rank, "this machine, from 0; 0", {.value = "R"});
  line.add_option("--master-addr", &options.master_address, "host with --node-rank 0; 127.0.0.1",
                  {.value = "HOST"});
  line.add_option("--master-port", &options.master_port,
                  "port that the launcher of --node-rank 0 serves; 0 is any free one",
                  {.value = "PORT"});
  line.keep_after_dashes(&options.command);
  line.set_footer("tessera launch --nproc 4 -- train --config job.toml --training.steps 50");
}

[[noreturn]] void refuse(const std::string& flag, const std::string& got,
                         const std::string& expected) {
  throw UsageError(flag + ": got " + got + ", expected " + expected);
}

void check_range(const std::string& flag, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    refuse(flag, std::to_string(value),
           "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
}

void check(const LaunchCommandOptions& options) {
  check_range("--nproc", options.nproc, 1, 4096);
  check_range("--nnodes", options.nnodes, 1, int64_t{1} << 16);
  check_range("--node-rank", options.node_rank, 0, options.nnodes - 1);
  check_range("--max-restarts", options.max_restarts, 0, 1'000'000);
  check_range("--master-port", options.master_port, 0, 65535);
  if (options.command.empty())
    refuse("tessera launch", "no command", "one after --, such as -- train --config job.toml");
  if (options.nnodes == 1) return;
  const std::string why = " with --nnodes " + std::to_string(options.nnodes);
  if (!options.master_address)
    refuse("--master-addr", "nothing", "the host with --node-rank 0" + why);
  if (options.master_port == 0)
    refuse("--master-port", "0", "a free port of the host with --node-rank 0" + why);
  if (options.max_restarts > 0) {
    refuse("--max-restarts", std::to_string(options.max_restarts),
           "0" + why +
               ": launchers of several machines do not agree on when to restart; torchrun's "
               "do");
  }
}

int run(const LaunchCommandOptions& options) {
  check(options);
  std::optional<StoreServer> store;
  if (options.node_rank == 0) store.emplace(options.master_port);

  LaunchOptions launch_options;
  launch_options.command = options.command;
  launch_options.command.insert(launch_options.command.begin(),
                                std::filesystem::read_symlink("/proc/self/exe").string());
  launch_options.ranks =
      ranks_of_machine({.num_local = options.nproc,
                        .num_machines = options.nnodes,
                        .machine = options.node_rank,
                        .master_address = options.master_address.value_or("127.0.0.1"),
                        .master_port = store ? store->port() : options.master_port});
  launch_options.variables = {
      {"OMP_NUM_THREADS", std::to_string(num_threads_per_process(options.nproc))}};
  const Variables inherited = inherited_variables();
  launch_options.variables.insert(launch_options.variables.end(), inherited.begin(),
                                  inherited.end());
  launch_options.max_restarts = options.max_restarts;
  return launch(launch_options);
}

}  // namespace

Command launch_command() {
  return make_command("launch", "run a command of this program as several processes", add_options,
                      run);
}

}  // namespace tessera
