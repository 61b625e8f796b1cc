#include "trainer/launch/environment.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace tessera {
namespace {

constexpr int64_t kMostRanks = int64_t{1} << 20;
constexpr int64_t kMostPorts = 65535;
constexpr const char* kLauncherVariable = "TESSERA_LAUNCHER";

// How one launcher calls its values; nullptr: it has no such value.
struct Names {
  const char* launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
  const char* master_address = "MASTER_ADDR";
  const char* master_port = "MASTER_PORT";
};

constexpr Names kFlags = {"flags", "--rank",        "--world-size", "--local-rank",
                          nullptr, "--master-addr", "--master-port"};
constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kOpenMpi = {"openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kMpich = {"mpich", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};
constexpr Names kSlurm = {"slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr};

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

std::string titled(const std::string& name) {
  return name.starts_with("--") ? name : "environment variable " + name;
}

// Reads values by name and refuses what is not there or not in range.
class Reader {
 public:
  explicit Reader(const VariableLookup& lookup) : lookup_(lookup) {}

  std::optional<std::string> find(const char* name) const {
    return name == nullptr ? std::nullopt : lookup_(name);
  }
  bool has(const char* name) const { return find(name).has_value(); }

  // why: what makes the value necessary, or limits it; ends the message.
  std::string text(const char* name, const std::string& why) const {
    const std::optional<std::string> value = find(name);
    if (!value) refuse(titled(name) + " is not set; expected a value" + why);
    return *value;
  }

  int64_t number(const char* name, int64_t low, int64_t high, const std::string& why = "") const {
    const std::string expected = "; expected a whole number from " + std::to_string(low) + " to " +
                                 std::to_string(high) + why;
    const std::optional<std::string> value = find(name);
    if (!value) refuse(titled(name) + " is not set" + expected);
    int64_t result = 0;
    const char* end = value->data() + value->size();
    const auto [stop, error] = std::from_chars(value->data(), end, result);
    if (error != std::errc{} || stop != end || result < low || result > high)
      refuse(titled(name) + " is \"" + *value + "\"" + expected);
    return result;
  }

 private:
  const VariableLookup& lookup_;
};

std::string because(const char* name, int64_t value) {
  return ", because " + std::string(name) + " is " + std::to_string(value);
}

Environment read_ranks(const Reader& reader, const Names& names) {
  Environment result;
  result.launcher = names.launcher;
  result.world_size = reader.number(names.world_size, 1, kMostRanks);
  const std::string why = because(names.world_size, result.world_size);
  result.rank = reader.number(names.rank, 0, result.world_size - 1, why);
  if (reader.has(names.local_world_size))
    result.local_world_size = reader.number(names.local_world_size, 1, result.world_size, why);
  if (result.world_size > 1 || reader.has(names.local_rank)) {
    const int64_t num_local = result.local_world_size.value_or(result.world_size);
    result.local_rank =
        reader.number(names.local_rank, 0, num_local - 1,
                      result.local_world_size ? because(names.local_world_size, num_local) : why);
  }
  return result;
}

// Sets where the ranks meet, which only several ranks need. A default stands for a variable that is
// not set.
void read_master(const Reader& reader, const Names& names,
                 const std::optional<std::string>& default_address,
                 const std::optional<int64_t>& default_port, Environment& result) {
  const bool needed = result.world_size > 1;
  const std::string why = because(names.world_size, result.world_size);
  if (reader.has(names.master_address) || (needed && !default_address)) {
    result.master_address = reader.text(names.master_address, why + ": the host of rank 0");
  } else if (needed) {
    result.master_address = *default_address;
  }
  if (reader.has(names.master_port) || (needed && !default_port)) {
    result.master_port = reader.number(names.master_port, 1, kMostPorts, why);
  } else if (needed) {
    result.master_port = *default_port;
  }
}

Environment from_flags(const RankFlags& flags) {
  const VariableLookup lookup = [&](const std::string& name) {
    return name == kFlags.rank             ? flags.rank
           : name == kFlags.world_size     ? flags.world_size
           : name == kFlags.local_rank     ? flags.local_rank
           : name == kFlags.master_address ? flags.master_address
                                           : flags.master_port;
  };
  const Reader reader(lookup);
  Environment result = read_ranks(reader, kFlags);
  read_master(reader, kFlags, {}, {}, result);
  return result;
}

Environment from_torchrun(const Reader& reader) {
  Environment result = read_ranks(reader, kTorchrun);
  read_master(reader, kTorchrun, {}, {}, result);
  result.store_is_served = reader.find("TORCHELASTIC_USE_AGENT_STORE") == "True";
  constexpr const char* kRestartCount = "TORCHELASTIC_RESTART_COUNT";
  if (reader.has(kRestartCount)) result.restart_count = reader.number(kRestartCount, 0, kMostRanks);
  const bool is_torchrun = reader.has("TORCHELASTIC_RUN_ID");
  result.launcher = reader.find(kLauncherVariable)
                        .value_or(is_torchrun ? kTorchrun.launcher : "RANK and WORLD_SIZE");
  return result;
}

Environment from_mpi(const Reader& reader, const Names& names) {
  Environment result = read_ranks(reader, names);
  const bool is_one_machine = result.local_world_size == result.world_size;
  read_master(reader, names, is_one_machine ? std::optional("127.0.0.1") : std::nullopt, {},
              result);
  return result;
}

// The first host of a list: "node[001-004,7],login" gives "node001". Takes the first number of each
// bracket, up to the first comma outside of brackets; "" for a list that is no such list.
std::string first_host(std::string_view node_list) {
  std::string host;
  while (!node_list.empty() && node_list.front() != ',') {
    const size_t open = std::min(node_list.find_first_of("[,"), node_list.size());
    host += node_list.substr(0, open);
    node_list.remove_prefix(open);
    if (!node_list.starts_with('[')) continue;
    const size_t end = node_list.find(']');
    if (end == std::string_view::npos) return "";
    const std::string_view numbers = node_list.substr(1, end - 1);
    host += numbers.substr(0, numbers.find_first_of(",-"));
    node_list.remove_prefix(end + 1);
  }
  return host;
}

// The entry of node `node` (from 0) in a list such as "4(x2),3", which is 4, 4, 3. Nothing when the
// list does not reach that far.
std::optional<int64_t> tasks_on_node(std::string_view list, int64_t node) {
  const auto take = [&list](int64_t& value) {
    const auto [stop, error] = std::from_chars(list.data(), list.data() + list.size(), value);
    list.remove_prefix(static_cast<size_t>(stop - list.data()));
    return error == std::errc{} && value > 0;
  };
  const auto skip = [&list](std::string_view text) {
    const bool found = list.starts_with(text);
    if (found) list.remove_prefix(text.size());
    return found;
  };
  int64_t num_tasks = 0, num_nodes = 1;
  while (take(num_tasks)) {
    num_nodes = 1;
    if (skip("(x") && (!take(num_nodes) || !skip(")"))) return std::nullopt;
    if (node < num_nodes) return num_tasks;
    node -= num_nodes;
    if (!skip(",")) return std::nullopt;
  }
  return std::nullopt;
}

void check_started_by_srun(const Reader& reader) {
  const int64_t num_tasks = reader.number(kSlurm.world_size, 1, kMostRanks);
  if (num_tasks == 1) return;
  const std::optional<std::string> in_step = reader.find("SLURM_STEP_NUM_TASKS");
  if (in_step == std::to_string(num_tasks)) return;
  refuse("environment variable SLURM_NTASKS is \"" + std::to_string(num_tasks) +
         "\", but SLURM_STEP_NUM_TASKS is " + (in_step ? "\"" + *in_step + "\"" : "not set") +
         ": this allocation is for several processes, and this one was not started by srun; "
         "expected `srun tessera train ...` for all of them, `tessera launch --nproc N -- train "
         "...` for N on this machine, or `--rank 0 --world-size 1` for one");
}

int64_t slurm_port(const Reader& reader) {
  constexpr int64_t kMost = int64_t{1} << 32;
  const int64_t job = reader.number("SLURM_JOB_ID", 0, kMost);
  const int64_t step = reader.number("SLURM_STEP_ID", 0, kMost);
  return 61440 + (job + 64 * step) % 4096;
}

Environment from_slurm(const Reader& reader) {
  Environment result = read_ranks(reader, kSlurm);
  if (result.world_size == 1) {
    read_master(reader, kSlurm, {}, {}, result);
    return result;
  }
  const std::string why = because(kSlurm.world_size, result.world_size);
  constexpr const char* kTasks = "SLURM_STEP_TASKS_PER_NODE";
  const std::string tasks = reader.text(kTasks, why);
  const int64_t node = reader.number("SLURM_NODEID", 0, kMostRanks, why);
  result.local_world_size = tasks_on_node(tasks, node);
  if (!result.local_world_size || *result.local_world_size <= result.local_rank) {
    refuse("environment variable " + std::string(kTasks) + " is \"" + tasks +
           "\"; expected a list such as 4(x2),3 with more than SLURM_LOCALID, which is " +
           std::to_string(result.local_rank) + ", for node " + std::to_string(node) +
           ", which is SLURM_NODEID");
  }
  if (reader.has(kSlurm.master_address) && reader.has(kSlurm.master_port)) {
    read_master(reader, kSlurm, {}, {}, result);
    return result;
  }
  constexpr const char* kNodes = "SLURM_STEP_NODELIST";
  const std::string nodes = reader.text(kNodes, why);
  const std::string host = first_host(nodes);
  if (host.empty()) refuse(titled(kNodes) + " is \"" + nodes + "\"; expected host names");
  read_master(reader, kSlurm, host, slurm_port(reader), result);
  return result;
}

// Throws when WORLD_SIZE, which a script may have exported without RANK, is not the launcher's
// count.
Environment with_world_size_checked(const Reader& reader, const Names& names, Environment result) {
  const std::optional<std::string> exported = reader.find(kTorchrun.world_size);
  if (exported && *exported != std::to_string(result.world_size)) {
    refuse("environment variable WORLD_SIZE is \"" + *exported + "\", but " + names.world_size +
           " is \"" + std::to_string(result.world_size) +
           "\"; expected the same, or RANK beside WORLD_SIZE");
  }
  return result;
}

}  // namespace

Environment parse_environment(const VariableLookup& variable, const RankFlags& flags) {
  if (flags.rank || flags.world_size || flags.local_rank || flags.master_address ||
      flags.master_port) {
    return from_flags(flags);
  }
  const Reader reader(variable);
  if (reader.has(kTorchrun.rank)) return from_torchrun(reader);
  if (reader.has(kOpenMpi.rank))
    return with_world_size_checked(reader, kOpenMpi, from_mpi(reader, kOpenMpi));
  // srun sets PMI_RANK, too, but only mpiexec sets MPI_LOCALRANKID.
  if (reader.has(kMpich.rank) && reader.has(kMpich.local_rank))
    return with_world_size_checked(reader, kMpich, from_mpi(reader, kMpich));
  if (reader.has(kSlurm.world_size)) check_started_by_srun(reader);
  if (reader.has("SLURM_STEP_NUM_TASKS"))
    return with_world_size_checked(reader, kSlurm, from_slurm(reader));
  if (reader.has(kMpich.rank)) return from_mpi(reader, kMpich);
  if (reader.has(kTorchrun.world_size)) return from_torchrun(reader);
  return {};
}

Environment read_environment(const RankFlags& flags) {
  const VariableLookup variable = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  return parse_environment(variable, flags);
}

Variables to_variables(const Environment& environment) {
  Variables result = {
      {"RANK", std::to_string(environment.rank)},
      {"WORLD_SIZE", std::to_string(environment.world_size)},
      {"LOCAL_RANK", std::to_string(environment.local_rank)},
      {"MASTER_ADDR", environment.master_address},
      {"TORCHELASTIC_RESTART_COUNT", std::to_string(environment.restart_count)},
      {"TORCHELASTIC_USE_AGENT_STORE", environment.store_is_served ? "True" : "False"},
      {kLauncherVariable, environment.launcher}};
  if (environment.master_port != 0)
    result.emplace_back("MASTER_PORT", std::to_string(environment.master_port));
  if (environment.local_world_size)
    result.emplace_back("LOCAL_WORLD_SIZE", std::to_string(*environment.local_world_size));
  return result;
}

Variables inherited_variables() {
  Variables result;
  for (char** pair = environ; *pair != nullptr; ++pair) {
    const std::string_view text(*pair);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    result.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

bool wants_no_color() {
  const char* value = std::getenv("NO_COLOR");
  return value != nullptr && *value != '\0';
}

bool wants_torch_log() { return std::getenv("TORCH_CPP_LOG_LEVEL") != nullptr; }

}  // namespace tessera
