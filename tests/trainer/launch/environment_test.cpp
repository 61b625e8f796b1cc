#include "trainer/launch/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using VariableMap = std::map<std::string, std::string>;

Environment parse(const VariableMap& variables, const RankFlags& flags = {}) {
  return parse_environment(
      [&](const std::string& name) -> std::optional<std::string> {
        const auto at = variables.find(name);
        return at == variables.end() ? std::nullopt : std::optional(at->second);
      },
      flags);
}

VariableMap with(VariableMap variables, const VariableMap& changes) {
  for (const auto& [name, value] : changes) variables[name] = value;
  return variables;
}

VariableMap without(VariableMap variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

// The variables that torchrun --nnodes 2 --nproc-per-node 4 of LibTorch 2.13 sets for rank 5.
const VariableMap kTorchrun = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"GROUP_RANK", "1"},
                               {"MASTER_ADDR", "node1"},
                               {"MASTER_PORT", "29500"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"},
                               {"TORCHELASTIC_RUN_ID", "none"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"}};

// The variables that srun --nodes 3 --ntasks 11 sets for task 9, in a second step of the job.
const VariableMap kSlurm = {{"SLURM_JOB_ID", "70001"},
                            {"SLURM_STEP_ID", "1"},
                            {"SLURM_NTASKS", "11"},
                            {"SLURM_STEP_NUM_TASKS", "11"},
                            {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"},
                            {"SLURM_STEP_NODELIST", "node[07-09]"},
                            {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"},
                            {"SLURM_PROCID", "9"},
                            {"SLURM_LOCALID", "1"},
                            {"SLURM_NODEID", "2"}};

// The variables of a batch script: the batch step has a SLURM_PROCID, too, but no SLURM_STEP_*.
const VariableMap kBatchScript = {{"SLURM_JOB_ID", "70001"}, {"SLURM_NTASKS", "8"},
                                  {"SLURM_PROCID", "0"},     {"SLURM_LOCALID", "0"},
                                  {"SLURM_NODEID", "0"},     {"SLURM_JOB_NODELIST", "node[07-09]"}};

const VariableMap kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"MASTER_PORT", "29501"}};

const VariableMap kMpich = {{"PMI_RANK", "1"},
                            {"PMI_SIZE", "2"},
                            {"MPI_LOCALRANKID", "1"},
                            {"MPI_LOCALNRANKS", "2"},
                            {"MASTER_PORT", "29501"}};

const RankFlags kFlags = {.rank = "1",
                          .world_size = "2",
                          .local_rank = "1",
                          .master_address = "127.0.0.1",
                          .master_port = "29500"};

Environment slurm_environment() {
  return {.rank = 9,
          .world_size = 11,
          .local_rank = 1,
          .local_world_size = 3,
          .master_address = "node07",
          .master_port = 61440 + (70001 + 64) % 4096,
          .launcher = "slurm"};
}

Environment mpi_environment(const std::string& launcher) {
  return {.rank = 1,
          .world_size = 2,
          .local_rank = 1,
          .local_world_size = 2,
          .master_port = 29501,
          .launcher = launcher};
}

TEST(EnvironmentTest, OneProcessWithoutVariables) {
  const Environment environment = parse({});
  EXPECT_EQ(environment, Environment{});
  EXPECT_EQ(environment.world_size, 1);
  EXPECT_EQ(environment.launcher, "single process");
}

TEST(EnvironmentTest, ReadsTorchrunsVariables) {
  const Environment expected = {.rank = 5,
                                .world_size = 8,
                                .local_rank = 1,
                                .local_world_size = 4,
                                .master_address = "node1",
                                .master_port = 29500,
                                .restart_count = 2,
                                .store_is_served = true,
                                .launcher = "torchrun"};
  EXPECT_EQ(parse(kTorchrun), expected);
}

TEST(EnvironmentTest, TheAgentsStoreIsUsedOnlyWhereItIsSaidToBeThere) {
  EXPECT_FALSE(parse(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}})).store_is_served);
  EXPECT_FALSE(parse(without(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE")).store_is_served);
}

TEST(EnvironmentTest, TorchrunsVariablesMayBeSetByHand) {
  const Environment environment = parse({{"RANK", "0"},
                                         {"WORLD_SIZE", "2"},
                                         {"LOCAL_RANK", "0"},
                                         {"MASTER_ADDR", "localhost"},
                                         {"MASTER_PORT", "29500"}});
  EXPECT_EQ(environment.world_size, 2);
  EXPECT_EQ(environment.local_world_size, std::nullopt);
  EXPECT_EQ(environment.launcher, "RANK and WORLD_SIZE");
  EXPECT_FALSE(environment.store_is_served);
  EXPECT_EQ(parse({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).world_size, 1) << "one rank meets nobody";
}

TEST(EnvironmentTest, FlagsWinOverEverything) {
  const Environment expected = {
      .rank = 1, .world_size = 2, .local_rank = 1, .master_port = 29500, .launcher = "flags"};
  for (const VariableMap& variables :
       {VariableMap{}, kTorchrun, kSlurm, kBatchScript, kOpenMpi, kMpich}) {
    EXPECT_EQ(parse(variables, kFlags), expected);
  }
}

TEST(EnvironmentTest, FlagsAskForOneProcessInAnAllocationOfMany) {
  const Environment environment = parse(kBatchScript, {.rank = "0", .world_size = "1"});
  EXPECT_EQ(environment.world_size, 1);
}

TEST(EnvironmentTest, ReadsSlurmsStep) { EXPECT_EQ(parse(kSlurm), slurm_environment()); }

TEST(EnvironmentTest, MasterAddressAndPortWinOverSlurms) {
  Environment expected = slurm_environment();
  expected.master_address = "ib-node07";
  EXPECT_EQ(parse(with(kSlurm, {{"MASTER_ADDR", "ib-node07"}})), expected);
  expected.master_port = 1234;
  const VariableMap both = with(kSlurm, {{"MASTER_ADDR", "ib-node07"}, {"MASTER_PORT", "1234"}});
  EXPECT_EQ(parse(both), expected);
  EXPECT_EQ(parse(without(both, "SLURM_STEP_NODELIST")), expected);
}

TEST(EnvironmentTest, TheFirstHostOfSlurmsList) {
  const std::map<std::string, std::string> cases = {{"node1", "node1"},
                                                    {"node1,node2", "node1"},
                                                    {"a[1-3,7]", "a1"},
                                                    {"node[007,009-011],login", "node007"},
                                                    {"gpu-[03-04]-ib,x", "gpu-03-ib"},
                                                    {"rack[1-2]node[3-4]", "rack1node3"}};
  for (const auto& [list, host] : cases) {
    EXPECT_EQ(parse(with(kSlurm, {{"SLURM_STEP_NODELIST", list}})).master_address, host);
  }
}

TEST(EnvironmentTest, TasksOfSlurmsNodes) {
  for (const auto& [node, expected] : {std::pair{"0", 4}, {"1", 4}, {"2", 3}}) {
    EXPECT_EQ(parse(with(kSlurm, {{"SLURM_NODEID", node}})).local_world_size, expected);
  }
  for (const char* list : {"", "4", "4(x2)", "4(x2,3", "4(2),3", "x", "4(x2),3", "1(x9)"}) {
    EXPECT_ERROR(
        parse(with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", list},
                            {"SLURM_NODEID", list == std::string("4(x2),3") ? "3" : "2"}})),
        "SLURM_STEP_TASKS_PER_NODE", "\"" + std::string(list) + "\"", "4(x2),3");
  }
}

TEST(EnvironmentTest, StepsOfAJobHaveDifferentPorts) {
  const int64_t port = parse(kSlurm).master_port;
  EXPECT_NE(parse(with(kSlurm, {{"SLURM_STEP_ID", "2"}})).master_port, port);
  EXPECT_NE(parse(with(kSlurm, {{"SLURM_JOB_ID", "70002"}})).master_port, port);
  EXPECT_EQ(parse(with(kSlurm, {{"SLURM_JOB_ID", "4294967295"}})).master_port / 4096, 15);
}

TEST(EnvironmentTest, AnAllocationWithoutSrunIsRefused) {
  EXPECT_ERROR(parse(kBatchScript), "SLURM_NTASKS", "\"8\"", "SLURM_STEP_NUM_TASKS is not set",
               "srun tessera train", "tessera launch --nproc", "--rank 0 --world-size 1");
  // The shell of salloc may be a step of one task that keeps the allocation's count.
  EXPECT_ERROR(parse(with(kBatchScript, {{"SLURM_STEP_NUM_TASKS", "1"}})),
               "SLURM_STEP_NUM_TASKS is \"1\"", "srun tessera train");
}

TEST(EnvironmentTest, AnAllocationOfOneTaskIsASingleProcess) {
  EXPECT_EQ(parse(with(kBatchScript, {{"SLURM_NTASKS", "1"}})), Environment{});
  EXPECT_EQ(parse(without(kBatchScript, "SLURM_NTASKS")), Environment{}) << "salloc --nodes 1";
}

TEST(EnvironmentTest, OneTaskOfSrunNeedsNoMaster) {
  const Environment environment = parse({{"SLURM_NTASKS", "1"},
                                         {"SLURM_STEP_NUM_TASKS", "1"},
                                         {"SLURM_PROCID", "0"},
                                         {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(environment, (Environment{.launcher = "slurm"}));
}

TEST(EnvironmentTest, ReadsMpisVariables) {
  EXPECT_EQ(parse(kOpenMpi), mpi_environment("openmpi"));
  EXPECT_EQ(parse(kMpich), mpi_environment("mpich"));
}

TEST(EnvironmentTest, MpiOnSeveralMachinesNeedsAnAddress) {
  const VariableMap two_machines = with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", "4"}});
  EXPECT_ERROR(parse(two_machines), "MASTER_ADDR is not set", "OMPI_COMM_WORLD_SIZE is 4");
  EXPECT_EQ(parse(with(two_machines, {{"MASTER_ADDR", "node1"}})).master_address, "node1");
}

TEST(EnvironmentTest, TheInnermostLauncherWins) {
  const auto inside_slurm = [](VariableMap variables) {
    variables.insert(kSlurm.begin(), kSlurm.end());
    return variables;
  };
  EXPECT_EQ(parse(inside_slurm(kTorchrun)), parse(kTorchrun));
  EXPECT_EQ(parse(inside_slurm(kOpenMpi)), parse(kOpenMpi)) << "SLURM_PROCID is mpirun's daemon's";
  EXPECT_EQ(parse(inside_slurm(kMpich)), parse(kMpich));
  const VariableMap srun_with_pmi2 = with(kSlurm, {{"PMI_RANK", "9"}, {"PMI_SIZE", "11"}});
  EXPECT_EQ(parse(srun_with_pmi2), slurm_environment());
}

TEST(EnvironmentTest, AWorldSizeWithoutRankMustAgree) {
  EXPECT_EQ(parse(with(kSlurm, {{"WORLD_SIZE", "11"}})), slurm_environment());
  EXPECT_ERROR(parse(with(kSlurm, {{"WORLD_SIZE", "12"}})), "WORLD_SIZE", "\"12\"", "SLURM_NTASKS",
               "\"11\"");
  EXPECT_ERROR(parse(with(kOpenMpi, {{"WORLD_SIZE", "4"}})), "OMPI_COMM_WORLD_SIZE");
  EXPECT_ERROR(parse(with(kMpich, {{"WORLD_SIZE", "4"}})), "PMI_SIZE");
  EXPECT_ERROR(parse({{"WORLD_SIZE", "2"}}), "RANK is not set", "0 to 1");
}

TEST(EnvironmentTest, NamesWhatIsMissing) {
  for (const char* name : {"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})
    EXPECT_ERROR(parse(without(kTorchrun, name)), name, "is not set; expected");
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "MASTER_PORT"})
    EXPECT_ERROR(parse(without(kOpenMpi, name)), name, "is not set; expected");
  for (const char* name : {"PMI_SIZE", "MPI_LOCALRANKID", "MASTER_PORT"})
    EXPECT_ERROR(parse(without(kMpich, name)), name, "is not set; expected");
  for (const char* name :
       {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID",
        "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_JOB_ID", "SLURM_STEP_ID"})
    EXPECT_ERROR(parse(without(kSlurm, name)), name, "is not set; expected");
}

TEST(EnvironmentTest, NamesTheFlagThatIsMissing) {
  RankFlags flags = kFlags;
  flags.rank.reset();
  EXPECT_ERROR(parse(kTorchrun, flags), "--rank is not set");
  flags = kFlags;
  flags.world_size.reset();
  EXPECT_ERROR(parse(kTorchrun, flags), "--world-size is not set");
  flags = kFlags;
  flags.local_rank.reset();
  EXPECT_ERROR(parse(kTorchrun, flags), "--local-rank is not set", "--world-size is 2");
  flags = kFlags;
  flags.master_address.reset();
  EXPECT_ERROR(parse(kTorchrun, flags), "--master-addr is not set");
  flags = kFlags;
  flags.master_port.reset();
  EXPECT_ERROR(parse(kTorchrun, flags), "--master-port is not set");
}

TEST(EnvironmentTest, NamesWhatContradicts) {
  EXPECT_ERROR(parse(with(kTorchrun, {{"RANK", "8"}})), "RANK is \"8\"", "0 to 7",
               "WORLD_SIZE is 8");
  EXPECT_ERROR(parse(with(kTorchrun, {{"LOCAL_RANK", "4"}})), "LOCAL_RANK is \"4\"", "0 to 3",
               "LOCAL_WORLD_SIZE is 4");
  EXPECT_ERROR(parse(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}})), "LOCAL_WORLD_SIZE is \"9\"",
               "1 to 8", "WORLD_SIZE is 8");
  EXPECT_ERROR(parse(with(kTorchrun, {{"MASTER_PORT", "65536"}})), "MASTER_PORT is \"65536\"");
  EXPECT_ERROR(parse(with(kTorchrun, {{"MASTER_PORT", "0"}})), "MASTER_PORT is \"0\"");
  EXPECT_ERROR(parse(with(kSlurm, {{"SLURM_STEP_NODELIST", "node[1"}})), "SLURM_STEP_NODELIST",
               "\"node[1\"");
}

TEST(EnvironmentTest, RefusesWhatIsNoNumber) {
  for (const char* text : {"one", "", " 1", "1 ", "1.0", "0x1", "-1", "99999999999999999999"}) {
    const std::string quoted = "\"" + std::string(text) + "\"";
    EXPECT_ERROR(parse(with(kTorchrun, {{"RANK", text}})), "environment variable RANK", quoted);
    RankFlags flags = kFlags;
    flags.rank = text;
    EXPECT_ERROR(parse({}, flags), "--rank is " + quoted, "0 to 1");
  }
  EXPECT_ERROR(parse(with(kTorchrun, {{"WORLD_SIZE", "0"}})), "WORLD_SIZE", "\"0\"");
  EXPECT_ERROR(parse(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "x"}})),
               "TORCHELASTIC_RESTART_COUNT", "\"x\"");
}

TEST(EnvironmentTest, VariablesForAChildAreReadBack) {
  const auto read_back = [](const Environment& environment) {
    VariableMap variables = {{"TORCHELASTIC_RUN_ID", "that of an outer torchrun"}};
    for (const auto& [name, value] : to_variables(environment)) variables[name] = value;
    return parse(variables);
  };
  Environment environment = {.rank = 3,
                             .world_size = 4,
                             .local_rank = 1,
                             .local_world_size = 2,
                             .master_address = "node1",
                             .master_port = 29500,
                             .restart_count = 1,
                             .store_is_served = true,
                             .launcher = "tessera launch"};
  EXPECT_EQ(read_back(environment), environment);
  environment.store_is_served = false;
  environment.local_world_size.reset();
  EXPECT_EQ(read_back(environment), environment);
  EXPECT_EQ(read_back({}), Environment{});
}

TEST(EnvironmentTest, ReadsThisProcess) {
  setenv("RANK", "0", 1);
  setenv("WORLD_SIZE", "1", 1);
  EXPECT_EQ(read_environment().launcher, "RANK and WORLD_SIZE");
  EXPECT_EQ(read_environment(kFlags).launcher, "flags");
  const Variables inherited = inherited_variables();
  EXPECT_NE(std::find(inherited.begin(), inherited.end(),
                      std::pair(std::string("WORLD_SIZE"), std::string("1"))),
            inherited.end());
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

TEST(EnvironmentTest, NoColorCountsWhenItIsNotEmpty) {
  unsetenv("NO_COLOR");
  EXPECT_FALSE(wants_no_color());
  setenv("NO_COLOR", "", 1);
  EXPECT_FALSE(wants_no_color());
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(wants_no_color());
  unsetenv("NO_COLOR");
}

TEST(EnvironmentTest, TorchsLogIsAskedForByItsLevel) {
  unsetenv("TORCH_CPP_LOG_LEVEL");
  EXPECT_FALSE(wants_torch_log());
  setenv("TORCH_CPP_LOG_LEVEL", "INFO", 1);
  EXPECT_TRUE(wants_torch_log());
  unsetenv("TORCH_CPP_LOG_LEVEL");
}

}  // namespace
}  // namespace tessera
