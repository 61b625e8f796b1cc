// `tessera launch` as a user meets it. What it does with its ranks is tested in launcher_test.cpp.
#include <gtest/gtest.h>

#include "tests/support/process.h"
#include "tests/trainer/job/job_fixture.h"
#include "trainer/launch/store_server.h"

namespace tessera {
namespace {

using testing::ProcessResult;

ProcessResult launch_program(std::vector<std::string> arguments,
                             const std::vector<std::string>& environment = {}) {
  arguments.insert(arguments.begin(), {TESSERA_BINARY, "launch"});
  return testing::run_process(arguments, environment, TESSERA_SOURCE_DIR);
}

TEST(LaunchCommand, RunsACommandOfThisProgramAsRanks) {
  const ProcessResult result = launch_program({"--nproc", "2", "--", "--version"});
  expect_output(result, 0, {"[rank 0] tessera " TESSERA_VERSION, "[rank 1] tessera"});
}

TEST(LaunchCommand, TrainsWithOneRank) {
  const testing::JobFixture job;
  const ProcessResult result =
      launch_program({"--nproc", "1", "--", "train", "--config", job.config()});
  expect_output(result, 0, {"[rank 0] [", "step:  1", "metrics.jsonl"});
}

TEST(LaunchCommand, RepeatsTheErrorAndTheStatusOfTheRankThatFailed) {
  const ProcessResult result =
      launch_program({"--nproc", "1", "--", "train", "--config", "/no/such.toml"});
  expect_output(result, 2,
                {"[rank 0] tessera: error:",
                 "tessera launch: rank 0 failed with exit status 2: "
                 "tessera: error:"});
}

TEST(LaunchCommand, UsageErrorsExitWithTwo) {
  expect_output(launch_program({"--nproc", "2"}), 2, {"no command", "-- train --config"});
  expect_output(launch_program({"--nproc", "2", "--"}), 2, {"no command"});
  expect_output(launch_program({"--", "train"}), 2, {"--nproc"});
  expect_output(launch_program({"--nproc", "0", "--", "train"}), 2, {"--nproc", "got 0"});
  expect_output(launch_program({"--nproc", "two", "--", "train"}), 2, {"--nproc", "two"});
  expect_output(launch_program({"--nproc", "2", "train", "--config", "x"}), 2, {"train"});
  expect_output(launch_program({"--nproc", "1", "--max-restarts", "-1", "--", "train"}), 2,
                {"--max-restarts", "got -1"});
  expect_output(launch_program({"--nproc", "1", "--node-rank", "1", "--", "train"}), 2,
                {"--node-rank", "got 1", "0 to 0"});
  expect_output(launch_program({"--nproc", "1", "--master-port", "65536", "--", "train"}), 2,
                {"--master-port", "got 65536"});
}

TEST(LaunchCommand, SeveralMachinesMustKnowWhereToMeet) {
  const auto with = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--nproc", "1", "--nnodes", "2", "--node-rank", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {"--", "--version"});
    return launch_program(arguments);
  };
  expect_output(with({"--master-port", "29500"}), 2, {"--master-addr", "--node-rank 0"});
  expect_output(with({"--master-addr", "node0"}), 2, {"--master-port", "--node-rank 0"});
  expect_output(with({"--master-addr", "node0", "--master-port", "29500", "--max-restarts", "1"}),
                2, {"--max-restarts", "torchrun"});
  expect_output(with({"--master-addr", "node0", "--master-port", "29500"}), 0,
                {"[rank 1] tessera"});
}

TEST(LaunchCommand, APortInUseIsAnErrorBeforeAnyRankStarts) {
  const StoreServer other(0);
  const std::string port = std::to_string(other.port());
  const ProcessResult result =
      launch_program({"--nproc", "1", "--master-port", port, "--", "--version"});
  expect_output(result, 1, {"--master-port", "port " + port, "address already in use"});
  EXPECT_EQ(result.output.find("[rank"), std::string::npos) << result.output;
}

TEST(LaunchCommand, RanksOfTrainAreReadFromFlags) {
  const testing::JobFixture job;
  const ProcessResult result = testing::run_process(
      {TESSERA_BINARY, "train", "--config", job.config(), "--rank", "2", "--world-size", "2"});
  expect_output(result, 2, {"--rank is \"2\"", "0 to 1"});
}

}  // namespace
}  // namespace tessera
