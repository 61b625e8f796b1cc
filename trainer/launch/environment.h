// The process's place among the ranks of a run, and the user's wishes. The only file that reads
// environment variables.
//
//   const Environment environment = read_environment(rank_flags);
//   if (environment.world_size > 1) ...   // meet the others at master_address:master_port
//
// Who says which rank this is, first match wins:
//
//   flags            train --rank --world-size --local-rank --master-addr --master-port
//   torchrun         RANK WORLD_SIZE LOCAL_RANK [LOCAL_WORLD_SIZE] MASTER_ADDR MASTER_PORT; also
//                    `tessera launch`, and people who set these by hand
//   OpenMPI          OMPI_COMM_WORLD_{RANK,SIZE,LOCAL_RANK,LOCAL_SIZE}
//   MPICH            PMI_{RANK,SIZE}, MPI_{LOCALRANKID,LOCALNRANKS}; Intel MPI as well
//   Slurm's srun     SLURM_{PROCID,NTASKS,LOCALID}, SLURM_STEP_{NUM_TASKS,TASKS_PER_NODE,NODELIST}
//   single process   none of these
//
// MPI stands before Slurm because mpirun starts its own daemons by srun: its ranks may see the
// daemon's SLURM_PROCID. WORLD_SIZE without RANK beside MPI or Slurm (scripts export it) must
// agree.
//
// Where the ranks meet: MASTER_ADDR and MASTER_PORT where they are set. Without them
//
//   Slurm   the first host of SLURM_STEP_NODELIST, where rank 0 runs, and port
//           61440 + (SLURM_JOB_ID + 64 * SLURM_STEP_ID) % 4096: above Linux' range for outgoing
//           connections, other for other steps. (SLURM_LAUNCH_NODE_IPADDR is where srun was
//           called, which may be the login node.)
//   MPI     127.0.0.1 when all ranks share a machine; the port must be set.
//
// A Slurm allocation of several tasks in which nothing was started by srun (a batch script, the
// shell of salloc) is refused: rank 0 of N would wait for ranks that nobody starts, and a single
// process would leave the rest of the allocation idle.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct Environment {
  int64_t rank = 0;  // 0 to world_size - 1
  int64_t world_size = 1;
  int64_t local_rank = 0;                        // among the ranks of this machine
  std::optional<int64_t> local_world_size = {};  // nothing when the launcher does not say
  std::string master_address = "127.0.0.1";      // where rank 0, or the launcher, serves the store
  int64_t master_port = 0;                       // 0: a single process, without a store
  int64_t restart_count = 0;                     // how often the launcher has restarted all ranks
  bool store_is_served = false;  // the launcher serves the store: rank 0 is a client, too
  std::string launcher = "single process";  // for logs: "torchrun", "slurm", "tessera launch"...

  bool operator==(const Environment&) const = default;
};

// The flags of `tessera train`, as texts; flags that were not given are empty. One of them suffices
// for the flags to decide.
struct RankFlags {
  std::optional<std::string> rank = {};
  std::optional<std::string> world_size = {};
  std::optional<std::string> local_rank = {};
  std::optional<std::string> master_address = {};
  std::optional<std::string> master_port = {};
};

// The value of an environment variable; nothing when it is not set.
using VariableLookup = std::function<std::optional<std::string>(const std::string& name)>;

// This process's place by the rules at the top of this file. Throws std::invalid_argument naming
// the variable or flag, what it is and what was expected, when one is missing, is not a number, is
// out of range, or contradicts another.
Environment parse_environment(const VariableLookup& variable, const RankFlags& flags = {});

// parse_environment with the variables of this process.
Environment read_environment(const RankFlags& flags = {});

// Environment variables by name and value.
using Variables = std::vector<std::pair<std::string, std::string>>;

// The variables that a launcher sets: parse_environment gets `environment` back from them.
Variables to_variables(const Environment& environment);

// All variables of this process, for a child that gets more.
Variables inherited_variables();

// Whether the user wants no colours in terminals: NO_COLOR is set and not empty (no-color.org).
bool wants_no_color();

// Whether the user wants LibTorch's own log, at the level in TORCH_CPP_LOG_LEVEL.
bool wants_torch_log();

}  // namespace tessera
