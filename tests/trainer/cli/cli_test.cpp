// The `tessera` program as a user meets it: exit statuses, messages, Ctrl-C.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/trainer/job/job_fixture.h"
#include "tests/trainer/launch/process_state.h"
#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

using testing::ChildProcess;
using testing::expect_output;
using testing::JobFixture;
using testing::ProcessResult;
using testing::run_process;

ProcessResult tessera_program(std::vector<std::string> arguments,
                              const std::vector<std::string>& environment = {}) {
  arguments.insert(arguments.begin(), TESSERA_BINARY);
  return run_process(arguments, environment, TESSERA_SOURCE_DIR);
}

TEST(CliTest, TrainsAndSaysWhatAndWhere) {
  const JobFixture job;
  const ProcessResult result = tessera_program({"train", "--config", job.config()});
  ASSERT_EQ(result.status, 0) << result.output;
  for (const char* part :
       {"6,163,712", "flex", "block_causal", "step:  1", "loss:", "grad_norm:", "memory:", "tps:",
        "tflops:", "mfu:", "metrics.jsonl", "loss.svg", "train.log"}) {
    EXPECT_NE(result.output.find(part), std::string::npos) << part << " is missing in\n"
                                                           << result.output;
  }
}

TEST(CliTest, ConfigFileHasTorchTitansNameToo) {
  const JobFixture job;
  EXPECT_EQ(
      tessera_program({"train", "--job.config_file", job.config(), "--training.steps=1"}).status,
      0);
  EXPECT_EQ(read_metrics(job.dump_folder() + "/metrics.jsonl").size(), 1u);
}

TEST(CliTest, UsageErrorsExitWithTwo) {
  const JobFixture job;
  expect_output(tessera_program({}), 2, {"subcommand"});
  expect_output(tessera_program({"trian"}), 2, {"trian"});
  expect_output(tessera_program({"train"}), 2, {"--config"});
  expect_output(tessera_program({"train", "--config", "/no/such.toml"}), 2, {"/no/such.toml"});
  expect_output(tessera_program({"train", "--config", job.config(), "--training.stepz", "3"}), 2,
                {"training.stepz", "training.steps"});
  expect_output(tessera_program({"train", "--config", job.config(), "--training.steps", "ten"}), 2,
                {"training.steps", "ten"});
  job.folder().write("broken.toml", "[training]\nsteps = = 3\n");
  expect_output(tessera_program({"train", "--config", job.path("broken.toml")}), 2,
                {"broken.toml", "line 2"});
  expect_output(tessera_program({"train", "--config", job.config()}, {"WORLD_SIZE=two"}), 2,
                {"WORLD_SIZE", "two"});
}

TEST(CliTest, FailedRunsExitWithOne) {
  const JobFixture job;
  expect_output(
      tessera_program({"train", "--config", job.config(), "--training.dataset_path", "/no/such"}),
      1, {"training.dataset_path", "/no/such"});
}

TEST(CliTest, HelpAndVersionExitWithZero) {
  EXPECT_EQ(tessera_program({"--help"}).status, 0);
  EXPECT_EQ(tessera_program({"train", "--help"}).status, 0);
  const ProcessResult version = tessera_program({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_NE(version.output.find(TESSERA_VERSION), std::string::npos) << version.output;
}

TEST(CliTest, PrintedConfigurationRunsTheSameJob) {
  const JobFixture job;
  const ProcessResult printed =
      tessera_program({"config", "--config", job.config(), "--print", "--training.steps", "2"});
  ASSERT_EQ(printed.status, 0) << printed.output;
  const std::string copy = job.folder().write("copy.toml", printed.output);
  ASSERT_EQ(tessera_program({"train", "--config", copy}).status, 0);
  EXPECT_EQ(read_metrics(job.dump_folder() + "/metrics.jsonl").size(), 2u);
}

TEST(CliTest, SchemaIsPrinted) {
  const ProcessResult schema = tessera_program({"config", "--schema"});
  EXPECT_EQ(schema.status, 0);
  EXPECT_EQ(schema.output.front(), '{');
  EXPECT_NE(schema.output.find("local_batch_size"), std::string::npos);
  expect_output(tessera_program({"config"}), 2, {"--print"});
}

// Waits until the run has written at least `num_records` records; whether it has before it ended.
bool has_records(const ChildProcess& run, const std::string& metrics_file, int64_t num_records) {
  const auto are_there = [&] {
    const std::string records = testing::content_of(metrics_file);
    return std::count(records.begin(), records.end(), '\n') >= num_records;
  };
  return testing::eventually(are_there, [&] { return !testing::is_alive(run.pid()); });
}

TEST(CliTest, CtrlCFinishesTheStepAndWritesEverything) {
  const JobFixture job;
  ChildProcess child({TESSERA_BINARY, "train", "--config", job.config(), "--training.steps",
                      "1000000", "--checkpoint.enable", "--metrics.log_freq", "1"},
                     {}, TESSERA_SOURCE_DIR);
  const std::string metrics_file = job.dump_folder() + "/metrics.jsonl";
  ASSERT_TRUE(has_records(child, metrics_file, 2)) << child.output_so_far();
  child.signal(SIGINT);
  const ProcessResult result = child.wait();
  EXPECT_EQ(result.status, 130) << result.output;
  const std::vector<StepRecord> records = read_metrics(metrics_file);
  ASSERT_GE(records.size(), 2u);
  EXPECT_TRUE(std::filesystem::exists(job.dump_folder() + "/loss.svg"));
  EXPECT_TRUE(std::filesystem::exists(job.dump_folder() + "/checkpoint/step-" +
                                      std::to_string(records.back().step)));
}

TEST(CliTest, TheRecipeFindsItsDataFromTheRepositoryRoot) {
  const testing::TempDir folder;
  const ProcessResult result =
      tessera_program({"train", "--config", "configs/llama3_debug.toml", "--training.steps", "1",
                       "--training.seq_len", "64", "--training.local_batch_size", "1",
                       "--job.dump_folder", folder.path().string()});
  EXPECT_EQ(result.status, 0) << result.output;
}

}  // namespace
}  // namespace tessera
