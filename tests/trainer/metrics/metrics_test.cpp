#include "trainer/metrics/metrics.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/numbers.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/support/full_disk.h"

namespace tessera {
namespace {

using testing::content_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kInfinity;
using testing::kNan;
using testing::TempDir;

StepRecord record_of(int64_t step) {
  return {.step = step,
          .loss = 8.0 / static_cast<double>(step),
          .max_loss = 9.0,
          .grad_norm = 1.5,
          .lr = 8e-4,
          .num_tokens = 2048,
          .step_s = 0.5,
          .data_s = 0.01,
          .tps = 4096,
          .tflops = 0.15};
}

std::vector<int64_t> steps_of(const std::string& path) {
  std::vector<int64_t> steps;
  for (const StepRecord& record : read_metrics(path)) steps.push_back(record.step);
  return steps;
}

struct MetricsTest : ::testing::Test {
  TempDir folder;
  std::string path = (folder.path() / "metrics.jsonl").string();

  void write_steps(int64_t first, int64_t last) const {
    MetricsFile metrics(path, first - 1);
    for (int64_t step = first; step <= last; ++step) metrics.write(record_of(step));
  }
};

TEST(Metrics, ALineHasTheKeysInOrderAndNullForWhatIsUnknown) {
  EXPECT_EQ(
      to_json_line({.step = 3,
                    .loss = 8.1,
                    .max_loss = 8.2,
                    .grad_norm = 0.1,
                    .lr = 0.0008,
                    .num_tokens = 16384,
                    .step_s = 1.25,
                    .data_s = 0.5,
                    .tps = 13107.2}),
      R"({"step":3,"loss":8.1,"max_loss":8.2,"grad_norm":0.1,"lr":0.0008,"num_tokens":16384,)"
      R"("step_s":1.25,"data_s":0.5,"tps":13107.2,"tflops":null,"mfu":null,"memory_gib":null})");
}

TEST(Metrics, NumbersThatAreNotFiniteAreNull) {
  StepRecord record = record_of(1);
  record.loss = kNan;
  record.grad_norm = kInfinity;
  record.mfu = -kInfinity;
  const std::string line = to_json_line(record);
  EXPECT_THAT(line, HasSubstr(R"("loss":null)"));
  EXPECT_THAT(line, HasSubstr(R"("grad_norm":null)"));
  EXPECT_THAT(line, HasSubstr(R"("mfu":null)"));
  const StepRecord read = from_json_line(line, "line");
  EXPECT_TRUE(std::isnan(read.loss));
  EXPECT_TRUE(std::isnan(read.grad_norm));
  EXPECT_EQ(read.mfu, std::nullopt);
  EXPECT_EQ(read.max_loss, 9.0);
}

// Doubles of every size, from random bits.
TEST(Metrics, EveryFiniteDoubleReadsBackBitForBit) {
  const uint64_t seed = 20261121;
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    StepRecord record = record_of(static_cast<int64_t>(random() >> 1));
    record.loss = value;
    record.memory_gib = -value;
    EXPECT_EQ(from_json_line(to_json_line(record), "line"), record)
        << "seed " << seed << " i " << i;
  }
}

TEST(Metrics, ReadingNamesWhatIsWrongWithALine) {
  EXPECT_ERROR(from_json_line("nonsense", "m.jsonl:4"), "m.jsonl:4", "not a metrics record");
  EXPECT_ERROR(from_json_line("[1]", "m.jsonl:4"), "m.jsonl:4", "not a metrics record");
  EXPECT_ERROR(from_json_line("{}", "m.jsonl:4"), "m.jsonl:4", "no step");
  EXPECT_ERROR(from_json_line(R"({"step":1.5})", "m.jsonl:4"), "m.jsonl:4", "step is 1.5",
               "an integer");
  EXPECT_ERROR(from_json_line(R"({"step":1})", "m.jsonl:4"), "m.jsonl:4", "no loss");
  EXPECT_ERROR(from_json_line(R"({"step":1,"loss":"low"})", "m.jsonl:4"), "m.jsonl:4",
               R"(loss is "low")", "a number or null");
}

TEST(Metrics, KeysThatAreNotKnownArePassedOver) {
  std::string line = to_json_line(record_of(7));
  line.insert(1, R"("remark":{"a":[1]},)");
  EXPECT_EQ(from_json_line(line, "line"), record_of(7));
}

TEST_F(MetricsTest, AppendedRecordsAreInTheFileAtOnce) {
  MetricsFile metrics(path, 0);
  EXPECT_EQ(metrics.path(), path);
  EXPECT_EQ(content_of(path), "");
  metrics.write(record_of(1));
  EXPECT_EQ(content_of(path), to_json_line(record_of(1)) + "\n");
  metrics.write(record_of(2));
  EXPECT_EQ(read_metrics(path), (std::vector<StepRecord>{record_of(1), record_of(2)}));
}

TEST_F(MetricsTest, ResumingDropsWhatWillBeWrittenAgain) {
  write_steps(1, 6);
  const std::string before = content_of(path);
  MetricsFile metrics(path, 4);
  EXPECT_EQ(metrics.num_dropped(), 2);
  EXPECT_THAT(steps_of(path), ElementsAre(1, 2, 3, 4));
  metrics.write(record_of(5));
  metrics.write(record_of(6));
  EXPECT_EQ(content_of(path), before);
}

TEST_F(MetricsTest, ResumingAtTheEndChangesNothing) {
  write_steps(1, 3);
  const std::string before = content_of(path);
  EXPECT_EQ(MetricsFile(path, 3).num_dropped(), 0);
  EXPECT_EQ(MetricsFile(path, 99).num_dropped(), 0);
  EXPECT_EQ(content_of(path), before);
}

TEST_F(MetricsTest, ResumingKeepsEarlierLinesAsTheyAre) {
  // Another writer's spacing and keys, to be kept byte for byte.
  const std::string foreign = R"({ "step" : 1, "remark" : "by hand" })";
  folder.write("metrics.jsonl", foreign + "\n" + to_json_line(record_of(2)) + "\n");
  const MetricsFile metrics(path, 1);
  EXPECT_EQ(content_of(path), foreign + "\n");
}

TEST_F(MetricsTest, ANewRunStartsAnew) {
  write_steps(1, 3);
  EXPECT_EQ(MetricsFile(path, 0).num_dropped(), 3);
  EXPECT_EQ(content_of(path), "");
  folder.write("metrics.jsonl", "not json\nat all\n");
  EXPECT_EQ(MetricsFile(path, 0).num_dropped(), 2);
}

TEST_F(MetricsTest, ATornLastLineIsPassedOverAndDroppedOnResume) {
  write_steps(1, 2);
  std::ofstream(path, std::ios::app) << R"({"step":3,"loss":7.)";
  EXPECT_THAT(steps_of(path), ElementsAre(1, 2));
  MetricsFile metrics(path, 3);
  EXPECT_EQ(metrics.num_dropped(), 1);
  metrics.write(record_of(3));
  EXPECT_THAT(steps_of(path), ElementsAre(1, 2, 3));
}

TEST_F(MetricsTest, EveryTearOfTheLastLineIsSurvived) {
  const std::string whole = to_json_line(record_of(1)) + "\n";
  const std::string torn = to_json_line(record_of(2));
  for (size_t length = 0; length <= torn.size(); ++length) {
    folder.write("metrics.jsonl", whole + torn.substr(0, length));
    MetricsFile metrics(path, 2);
    metrics.write(record_of(3));
    const bool complete = length == torn.size();
    const std::vector<int64_t> expected =
        complete ? std::vector<int64_t>{1, 2, 3} : std::vector<int64_t>{1, 3};
    EXPECT_EQ(steps_of(path), expected) << "after " << length << " bytes";
  }
}

TEST_F(MetricsTest, BlocksOfZerosAfterAPowerCutAreATornLine) {
  write_steps(1, 2);
  std::ofstream(path, std::ios::app | std::ios::binary) << std::string(512, '\0');
  EXPECT_THAT(steps_of(path), ElementsAre(1, 2));
  EXPECT_EQ(MetricsFile(path, 2).num_dropped(), 1);
}

TEST_F(MetricsTest, DamageElsewhereIsAnError) {
  write_steps(1, 1);
  std::ofstream(path, std::ios::app) << "garbage\n" << to_json_line(record_of(2)) << "\n";
  EXPECT_ERROR(read_metrics(path), path + ":2", "not a metrics record");
  const std::string before = content_of(path);
  EXPECT_ERROR(MetricsFile(path, 2), path + ":2", "not a metrics record");
  EXPECT_EQ(content_of(path), before);
}

TEST_F(MetricsTest, AMissingFileIsAnErrorToReadAndNoneToWrite) {
  EXPECT_ERROR(read_metrics(path), path, "no such metrics file");
  EXPECT_EQ(MetricsFile(path, 5).num_dropped(), 0);
  EXPECT_TRUE(read_metrics(path).empty());
}

TEST_F(MetricsTest, WhatIsNoRegularFileIsRefused) {
  // Reading /dev/zero or /dev/full would never end.
  std::filesystem::create_symlink("/dev/full", path);
  EXPECT_ERROR(MetricsFile(path, 0), "job.dump_folder", path, "not a regular file");
  EXPECT_ERROR(read_metrics(path), path);
}

TEST_F(MetricsTest, ANegativeLastStepIsRefused) {
  EXPECT_ERROR(MetricsFile(path, -1), "last_step is -1");
}

TEST_F(MetricsTest, AFullDiskNamesTheFile) {
  MetricsFile metrics(path, 0);
  metrics.write(record_of(1));
  {
    const testing::FullDisk full(content_of(path).size() + 10);
    EXPECT_ERROR(metrics.write(record_of(2)), "job.dump_folder", path, "cannot be written",
                 "File too large");
  }
  EXPECT_THAT(steps_of(path), ElementsAre(1)) << "the half line reads as torn";
}

TEST_F(MetricsTest, AFullDiskWhileResumingKeepsTheOldFile) {
  write_steps(1, 6);
  const std::string before = content_of(path);
  {
    const testing::FullDisk full(100);
    EXPECT_ERROR(MetricsFile(path, 4), "job.dump_folder", path, "File too large");
  }
  EXPECT_EQ(content_of(path), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "no temporary file stays";
}

TEST(ConsoleLine, IsTorchTitansLine) {
  StepRecord record = record_of(7);
  record.loss = 7.032912345;
  record.grad_norm = 0.93214;
  record.memory_gib = 1.25;
  record.tps = 14389.4;
  record.tflops = 0.153;
  record.mfu = 31.204;
  EXPECT_EQ(console_line(record, {.memory_total_gib = 16}),
            "step:  7  loss:  7.03291  grad_norm:  0.9321  memory:  1.25GiB(7.81%)  tps: 14,389  "
            "tflops: 0.15  mfu: 31.20%");
}

TEST(ConsoleLine, SaysNotAvailableInsteadOfGuessing) {
  StepRecord record = record_of(120);
  record.loss = kNan;
  record.tflops = std::nullopt;
  EXPECT_EQ(console_line(record, {}),
            "step: 120  loss:      nan  grad_norm:  1.5000  memory: N/A  tps: 4,096  tflops: N/A  "
            "mfu: N/A");
  record.memory_gib = 12.5;
  EXPECT_THAT(console_line(record, {}), HasSubstr("memory: 12.50GiB  tps"));
  EXPECT_THAT(console_line(record, {.memory_total_gib = 0}), HasSubstr("memory: 12.50GiB  tps"));
}

TEST(ConsoleLine, ColoursAreAddedAroundTheSameText) {
  StepRecord record = record_of(7);
  record.memory_gib = 1.25;
  std::string line = console_line(record, {.color = true});
  EXPECT_EQ(line.substr(0, 10), "\x1b[31mstep:");
  EXPECT_EQ(line.substr(line.size() - 5), "\x1b[39m");
  for (size_t at; (at = line.find('\x1b')) != line.npos;)
    line.erase(at, line.find('m', at) + 1 - at);
  EXPECT_EQ(line, console_line(record, {}));
}

}  // namespace
}  // namespace tessera
