// Starts the ranks of one machine as processes and stays with them until all have ended.
//
//   launch({.command = {"/opt/tessera", "train", "--config", "job.toml"},
//           .ranks = ranks_of_machine({.num_local = 4, .master_port = 29500}),
//           .variables = inherited_variables()});
//
// Output: every line of a rank's stdout and stderr comes out on the launcher's own, whole, as
// "[rank 2] line".
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
// No rank outlives the launcher: the kernel kills the ranks when the launcher dies, by whatever
// cause.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/launch/environment.h"

namespace tessera {

// What the environments of one machine's ranks follow from. All machines have equally many ranks.
struct MachineRanks {
  int64_t num_local = 1;  // processes of this machine
  int64_t num_machines = 1;
  int64_t machine = 0;                       // 0 to num_machines - 1
  std::string master_address = "127.0.0.1";  // of machine 0, where the store is served
  int64_t master_port = 0;                   // of that store
  std::string launcher = "tessera launch";   // for logs
};

// The environments of this machine's ranks: rank machine * num_local and the num_local - 1 after
// it. All of them are clients of the store, which the launcher of machine 0 serves
// (store_server.h).
std::vector<Environment> ranks_of_machine(const MachineRanks& machine);

// Threads for each of `num_processes` (at least 1) that share the cores this process may run on; at
// least 1.
int64_t num_threads_per_process(int64_t num_processes);

struct LaunchOptions {
  std::vector<std::string> command;  // [0] is the path of the program
  std::vector<Environment> ranks;    // one process each; restart_count is set by launch()
  Variables variables = {};          // of all ranks; those of `ranks` override them
  int64_t max_restarts = 0;
  std::chrono::milliseconds grace = std::chrono::seconds(10);  // from SIGTERM to SIGKILL
  int output_fd = 1;                                           // where the ranks' stdout goes
  int error_fd = 2;  // where the ranks' stderr and the launcher's own messages go
};

// Runs the ranks to their end and returns the exit status for this process: 0 when all finished
// with 0. Throws std::system_error when a process cannot be started; the processes that were
// started are killed.
int launch(const LaunchOptions& options);

}  // namespace tessera
