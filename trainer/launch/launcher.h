// Starts the ranks of one machine as processes and stays with them until all have ended.
//
//   launch({.command = {"/opt/tessera", "train", "--config", "job.toml"},
//           .ranks = ranks_of_machine({.num_local = 4, .master_port = 29500}),
//           .variables = inherited_variables()});
//
// Output: every line of a rank's stdout and stderr comes out on ours, whole, as "[rank 2] line".
//
// Failure: the first rank that exits with another status than 0, or dies by a signal, ends all:
// SIGTERM, and SIGKILL after a grace period. Then all start anew, up to `max_restarts` times, with
// TORCHELASTIC_RESTART_COUNT counted up; or launch() says which rank it was, how it ended and its
// last error line, and returns its exit status (128 + the signal that killed it).
//
// Ctrl-C: the first SIGINT or SIGTERM goes to all ranks, once; launch() waits for them, without a
// limit, for they may be writing a checkpoint, and returns 128 + signal, or 0 if all ranks finished
// with 0 all the same. The second kills them. There is no restart after a signal.
//
// No rank outlives the launcher: the kernel kills the ranks when the launcher dies of whatever.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/launch/environment.h"

namespace tessera {

struct MachineRanks {
  int64_t num_local = 1;  // processes of this machine
  int64_t num_machines = 1;
  int64_t machine = 0;  // 0 to num_machines - 1
  std::string master_address = "127.0.0.1";
  int64_t master_port = 0;
  std::string launcher = "tessera launch";
};

// The environments of this machine's ranks: machine * num_local and the num_local - 1 after it.
// The launcher of machine 0 serves the store.
std::vector<Environment> ranks_of_machine(const MachineRanks& machine);

// Threads for each of `num_processes` that share the cores this process may run on; at least 1.
int64_t num_threads_per_process(int64_t num_processes);

struct LaunchOptions {
  std::vector<std::string> command;  // [0] is the path of the program
  std::vector<Environment> ranks;
  Variables variables = {};  // of all ranks, beside what `ranks` say
  int64_t max_restarts = 0;
  std::chrono::milliseconds grace = std::chrono::seconds(10);  // from SIGTERM to SIGKILL
  int output_fd = 1;
  int error_fd = 2;
};

// Returns the exit status for this process. Throws std::system_error when a process cannot be
// started; those that were are killed.
int launch(const LaunchOptions& options);

}  // namespace tessera
