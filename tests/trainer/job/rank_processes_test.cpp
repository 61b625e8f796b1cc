// Ranks as processes: the ways to start them, and what users meet when one of them fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "parallel/comm/heart.h"
#include "tests/support/files.h"
#include "tests/support/port.h"
#include "tests/support/process.h"
#include "tests/trainer/job/job_fixture.h"
#include "tests/trainer/launch/process_state.h"
#include "trainer/launch/store_server.h"
#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

using testing::ChildProcess;
using testing::eventually;
using testing::is_alive;
using testing::ProcessResult;
using testing::ReservedPort;

using Arguments = std::vector<std::string>;

Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

const Arguments kEndless = {"--training.steps", "1000000"};  // more than any test waits for
// A kill is noticed by its closed connections: were an operation's limit waited for instead, the
// test would hang.
const Arguments kPatient = {"--comm.init_timeout_seconds",  "86400",  //
                            "--comm.train_timeout_seconds", "86400", "--comm.grace_seconds", "1"};
const Arguments kShortInit = {"--comm.init_timeout_seconds", "1"};
const Arguments kShortTrain = {"--comm.train_timeout_seconds", "1", "--comm.grace_seconds", "1"};
const Arguments kSaveEachStep = {"--checkpoint.enable", "--checkpoint.interval", "1"};
const Arguments kPipelineOfTwo = {"--parallelism.pipeline_parallel_degree", "2"};

// Processes below `parent`, at any depth.
std::vector<pid_t> descendants(pid_t parent) {
  const std::string task = "/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent);
  std::ifstream children(task + "/children");
  std::vector<pid_t> all;
  for (pid_t child; children >> child;) {
    all.push_back(child);
    const std::vector<pid_t> below = descendants(child);
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

// The process below `launcher` that was started as this rank; 0 when there is none.
pid_t process_of_rank(pid_t launcher, int64_t rank) {
  const std::string variable = "RANK=" + std::to_string(rank);
  for (const pid_t pid : descendants(launcher)) {
    std::ifstream environment("/proc/" + std::to_string(pid) + "/environ");
    for (std::string pair; std::getline(environment, pair, '\0');) {
      if (pair == variable) return pid;
    }
  }
  return 0;
}

// Kills the process of that rank; returns whether there was one.
bool kill_rank(pid_t launcher, int64_t rank) {
  const pid_t pid = process_of_rank(launcher, rank);
  return pid != 0 && kill(pid, SIGKILL) == 0;
}

LifeSign life_sign(const StoreServer& store, int64_t rank) {
  const auto client = c10::make_intrusive<c10d::TCPStore>(
      "127.0.0.1",
      c10d::TCPStoreOptions{.port = static_cast<uint16_t>(store.port()), .waitWorkers = false});
  c10d::PrefixStore run("tessera/attempt0", client);
  return read_life_signs(run, rank + 1, {rank}).back();
}

class RankProcesses : public ::testing::Test {
 protected:
  Arguments train(const Arguments& more = {}) const {
    return Arguments{"train", "--config", job_.config()} + more;
  }

  std::unique_ptr<ChildProcess> start(const Arguments& arguments,
                                      const Arguments& environment = {}) const {
    return std::make_unique<ChildProcess>(Arguments{TESSERA_BINARY} + arguments, environment,
                                          TESSERA_SOURCE_DIR);
  }

  std::unique_ptr<ChildProcess> start_rank(int64_t rank, const ReservedPort& port,
                                           const Arguments& more = {},
                                           int64_t world_size = 2) const {
    const std::string number = std::to_string(rank);
    return start(train(more) + Arguments{"--rank", number, "--world-size",
                                         std::to_string(world_size), "--local-rank", number,
                                         "--master-addr", "127.0.0.1", "--master-port",
                                         std::to_string(port.number())});
  }

  // Starts a rank that is a client of a store, as under a launcher that serves it.
  std::unique_ptr<ChildProcess> start_client(int64_t rank, const StoreServer& store,
                                             const Arguments& more) const {
    const std::string number = std::to_string(rank);
    return start(train(more),
                 {"RANK=" + number, "LOCAL_RANK=" + number, "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2",
                  "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + std::to_string(store.port()),
                  "TORCHELASTIC_USE_AGENT_STORE=True"});
  }

  static auto has_ended(const ChildProcess& process) {
    return [&process] { return !is_alive(process.pid()); };
  }

  // Waits for two steps; whether there were two before `process` ended.
  bool trains(const ChildProcess& process) const {
    const auto has_two_records = [&] {
      const std::string records = testing::content_of(metrics_file());
      return std::count(records.begin(), records.end(), '\n') >= 2;
    };
    return eventually(has_two_records, has_ended(process));
  }

  // Starts two ranks by `tessera launch` and kills rank 1 while they train.
  void expect_a_kill_to_end_the_launch(const Arguments& overrides) const {
    const auto launcher = start(Arguments{"launch", "--nproc", "2", "--"} + train(overrides));
    ASSERT_TRUE(trains(*launcher)) << launcher->output_so_far();
    const std::vector<pid_t> ranks = descendants(launcher->pid());
    EXPECT_EQ(ranks.size(), 2u);
    ASSERT_TRUE(kill_rank(launcher->pid(), 1));
    expect_output(launcher->wait(), 128 + SIGKILL,
                  {"tessera launch: rank 1 was killed by signal 9 (Killed)"});
    for (const pid_t rank : ranks) EXPECT_FALSE(is_alive(rank));
  }

  std::string metrics_file() const { return job_.dump_folder() + "/metrics.jsonl"; }

  std::vector<double> take_losses() const {
    std::vector<double> losses;
    for (const StepRecord& record : read_metrics(metrics_file())) losses.push_back(record.loss);
    std::filesystem::remove_all(job_.dump_folder());
    return losses;
  }

  testing::JobFixture job_;
};

// Every launcher starts the same run: two ranks train what one does with the same global batch.
class RankLaunchers : public RankProcesses {
 protected:
  void SetUp() override {
    const auto one = start(train({"--training.local_batch_size", "4"}));
    expect_output(one->wait(), 0, {});
    expected_ = take_losses();
    ASSERT_EQ(expected_.size(), 4u);
  }

  void expect_same_losses() const {
    const std::vector<double> losses = take_losses();
    ASSERT_EQ(losses.size(), expected_.size());
    for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected_[i], 1e-4) << i;
  }

  std::vector<double> expected_;
};

TEST_F(RankLaunchers, TesseraLaunch) {
  const auto launcher = start(Arguments{"launch", "--nproc", "2", "--"} + train());
  expect_output(launcher->wait(), 0, {"[rank 0] ", "step:  1", "metrics.jsonl"});
  expect_same_losses();
}

TEST_F(RankLaunchers, Flags) {
  const ReservedPort port;
  const auto second = start_rank(1, port), first = start_rank(0, port);
  expect_output(first->wait(), 0, {"step:  1"});
  expect_output(second->wait(), 0, {});
  expect_same_losses();
}

TEST_F(RankLaunchers, Torchrun) {
  const std::string torchrun = std::string(TESSERA_SOURCE_DIR) + "/.venv/bin/torchrun";
  if (!std::filesystem::exists(torchrun)) GTEST_SKIP() << "no " << torchrun;
  // Either the agent serves the store and all ranks are its clients, or it says that it does not
  // share one, and rank 0 serves one.
  for (const char* disable_sharing : {"0", "1"}) {
    ChildProcess agent(Arguments{torchrun, "--no-python", "--nproc-per-node", "2", "--rdzv-backend",
                                 "c10d", "--rdzv-endpoint", "127.0.0.1:0", TESSERA_BINARY} +
                           train(),
                       {std::string("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=") + disable_sharing},
                       TESSERA_SOURCE_DIR);
    expect_output(agent.wait(), 0, {"step:  1"});
    expect_same_losses();
  }
}

TEST_F(RankProcesses, AKilledRankEndsTheLaunchAndIsNamed) {
  expect_a_kill_to_end_the_launch(kEndless + kPatient);
}

TEST_F(RankProcesses, ALaunchStartsAnewAfterAKillAndEndsByCtrlC) {
  const auto launcher = start(Arguments{"launch", "--nproc", "2", "--max-restarts", "1", "--"} +
                              train(kEndless + kPatient));
  ASSERT_TRUE(trains(*launcher)) << launcher->output_so_far();
  ASSERT_TRUE(kill_rank(launcher->pid(), 1));
  const auto steps_after_restart = [&] {
    const std::string output = launcher->output_so_far();
    const size_t restart = output.find("restart 1 of 1 of all ranks");
    return restart != std::string::npos && output.find("step: ", restart) != std::string::npos;
  };
  ASSERT_TRUE(eventually(steps_after_restart, has_ended(*launcher))) << launcher->output_so_far();
  launcher->signal(SIGINT);
  expect_output(launcher->wait(), 130,
                {"rank 1 was killed by signal 9", "interrupted", "metrics.jsonl"});
}

// The surviving stage waits for messages that never come.
TEST_F(RankProcesses, AKilledPipelineStageEndsTheLaunchAndIsNamed) {
  expect_a_kill_to_end_the_launch(kEndless + kPatient + kPipelineOfTwo);
}

// Two pipelines, sharded over each other. Rank 0 has no group with rank 3 and fails because of
// ranks 1 and 2, which end before it.
TEST_F(RankProcesses, EverySurvivorOfAKilledPipelineStageNamesIt) {
  const ReservedPort port;
  std::vector<std::unique_ptr<ChildProcess>> ranks;
  for (int64_t rank = 0; rank < 4; ++rank) {
    ranks.push_back(start_rank(rank, port, kEndless + kPatient + kPipelineOfTwo, /*world_size=*/4));
  }
  ASSERT_TRUE(trains(*ranks[0])) << ranks[0]->output_so_far();
  ranks[3]->signal(SIGKILL);
  for (int64_t rank = 0; rank < 3; ++rank) {
    expect_output(ranks[static_cast<size_t>(rank)]->wait(), 1,
                  {"tessera: error: rank " + std::to_string(rank) + ":", "no word from rank 3"});
  }
}

// Both pipeline stages go on from the last checkpoint, on the curve of a run without a break.
TEST_F(RankProcesses, ARestartGoesOnFromTheCheckpoint) {
  const Arguments job = train(kPipelineOfTwo + Arguments{"--training.steps", "8"});
  const auto whole = start(Arguments{"launch", "--nproc", "2", "--"} + job);
  expect_output(whole->wait(), 0, {});
  const std::vector<double> expected = take_losses();
  ASSERT_EQ(expected.size(), 8u);

  const auto launcher = start(
      Arguments{"launch", "--nproc", "2", "--max-restarts", "1", "--"} + job + kPatient +
          Arguments{"--checkpoint.enable", "--checkpoint.interval", "3",
                    "--experimental.custom_import", DYING_EXTENSION, "--model.attention", "dying"},
      {"TESSERA_TEST_DIE_AFTER=" + job_.dump_folder() + "/checkpoint/step-3"});
  const ProcessResult result = launcher->wait();
  expect_output(result, 0, {"rank 1 was killed by signal 9", "restart 1 of 1 of all ranks"});
  const size_t restart = result.output.find("restart 1 of 1");
  ASSERT_NE(restart, std::string::npos);
  EXPECT_NE(result.output.find("continuing after step 3", restart), std::string::npos)
      << result.output;
  EXPECT_EQ(take_losses(), expected);
}

// Rank 1 is most likely killed while it saves, which takes longer than a step.
TEST_F(RankProcesses, SurvivorsOfAKilledRankNameIt) {
  const Arguments job = kEndless + kPatient + kSaveEachStep;
  const ReservedPort port;
  const auto first = start_rank(0, port, job), second = start_rank(1, port, job);
  ASSERT_TRUE(trains(*first)) << first->output_so_far();
  second->signal(SIGKILL);
  expect_output(first->wait(), 1, {"tessera: error: rank 0:", "no word from rank 1"});
}

// A machine that is too busy to keep the limit of 1 s makes a rank fail before the other hangs, and
// there is nobody to name. The life sign of rank 0 tells which of the two it was.
TEST_F(RankProcesses, ARankThatHangsIsNamedAfterTheTimeout) {
  const StoreServer store(0);
  const auto first = start_client(0, store, kEndless + kShortTrain);
  const auto second = start_client(1, store, kEndless + kShortTrain);
  trains(*first);
  second->signal(SIGSTOP);
  const auto is_stopped = [&] { return testing::state_of(second->pid()) == 'T'; };
  eventually(is_stopped, has_ended(*second));
  const bool hangs_before_the_failure = !life_sign(store, 0).has_failed;
  const ProcessResult result = first->wait();
  expect_output(result, 1, {"tessera: error: rank 0:"});
  EXPECT_THAT(result.output + second->output_so_far(),
              ::testing::HasSubstr("Timed out waiting 1000ms"));
  if (hangs_before_the_failure) {
    EXPECT_THAT(result.output, ::testing::HasSubstr("no word from rank 1: it died or hangs"));
  }
}

TEST_F(RankProcesses, ARankThatIsNeverStartedIsNamed) {
  const ReservedPort port;
  const auto first = start_rank(0, port, kShortInit);
  expect_output(first->wait(), 1,
                {"tessera: error:", "1 of 2 ranks did not join", "missing are ranks 1"});
}

TEST_F(RankProcesses, WithoutRank0ThereIsNoStore) {
  const ReservedPort port;
  const auto second = start_rank(1, port, kShortInit);
  expect_output(second->wait(), 1, {"cannot reach the store", std::to_string(port.number())});
}

TEST_F(RankProcesses, DifferentConfigurationsAreRefusedByEveryRank) {
  const ReservedPort port;
  const auto first = start_rank(0, port), second = start_rank(1, port, {"--training.steps", "5"});
  const Arguments parts = {"configurations of the ranks differ",
                           "rank 1: training.steps is 5 (rank 0: 4)"};
  expect_output(first->wait(), 2, parts);
  expect_output(second->wait(), 2, parts);
  EXPECT_FALSE(std::filesystem::exists(metrics_file()));
}

TEST_F(RankProcesses, APortInUseIsNamed) {
  const ReservedPort other;
  other.take();
  const auto first = start_rank(0, other, kShortInit);
  expect_output(first->wait(), 1,
                {"cannot serve the store", std::to_string(other.number()), "in use"});
}

TEST_F(RankProcesses, AStoreThatIsGoneHangsNobody) {
  auto store = std::make_unique<StoreServer>(0);
  const auto first = start_client(0, *store, kEndless + kPatient);
  const auto second = start_client(1, *store, kEndless + kPatient);
  ASSERT_TRUE(trains(*first)) << first->output_so_far();
  store.reset();
  second->signal(SIGKILL);
  expect_output(
      first->wait(), 1,
      {"tessera: error: rank 0:", "(ranks 0, 1) failed", "cannot be told", "is gone as well"});
}

}  // namespace
}  // namespace tessera
