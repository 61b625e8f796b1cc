// `tessera schedule` as a user meets it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/trainer/cli/command_expectations.h"
#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

using testing::expect_parts;
using testing::ProcessResult;

ProcessResult schedule_program(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {TESSERA_BINARY, "schedule"});
  return testing::run_process(arguments);
}

TEST(ScheduleCommand, PrintsSummaryAndTimeline) {
  const ProcessResult result = schedule_program({"--pp", "2", "--microbatches", "3"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output,
            "1F1B: 2 ranks, 2 stages, 3 microbatches\n"
            "makespan 12, bubble 25.00%, at most 2 live microbatches\n"
            "rank  idle  live\n"
            "   0   25%     2 │F0 F1 · · · B0--- F2 B1--- ·  B2---\n"
            "   1   25%     1 │·  F0 B0--- F1 B1--- F2 B2--- · · ·\n"
            "F forward  B backward  · idle\n");
}

TEST(ScheduleCommand, JsonIsOneObject) {
  const ProcessResult result =
      schedule_program({"--schedule", "loopedbfs", "--pp", "2", "--microbatches", "4", "--virtual",
                        "3", "--costs", "2,6", "--transfer", "0.5", "--json"});
  ASSERT_EQ(result.status, 0) << result.output;
  const nlohmann::json report = nlohmann::json::parse(result.output);
  EXPECT_EQ(report["schedule"], "LoopedBFS");
  EXPECT_EQ(report["stages"], 6);
  EXPECT_EQ(report["costs"]["backward_weight"], 3);
  EXPECT_EQ(report["costs"]["transfer"], 0.5);
}

TEST(ScheduleCommand, FilesGoRound) {
  const testing::TempDir folder;
  const std::string csv = (folder.path() / "zbv.csv").string();
  const std::string svg = (folder.path() / "zbv.svg").string();
  expect_parts(schedule_program({"--schedule", "ZBVZeroBubble", "--pp", "2", "--microbatches", "4",
                                 "--write-csv", csv}),
               0, {"written to " + csv});
  expect_parts(schedule_program({"--csv", csv, "--svg", svg}), 0,
               {"zbv.csv: 2 ranks, 4 stages, 4 microbatches", "bubble 4.00%", "drawn in " + svg});
  testing::expect_well_formed_svg(testing::content_of(svg));
}

TEST(ScheduleCommand, SchedulesThatCannotRunExitWithTwo) {
  const testing::TempDir folder;
  const std::string stuck = folder.write("own.csv", "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n");
  expect_parts(schedule_program({"--csv", stuck}), 2,
               {"own.csv: deadlock", "rank 0, position 1 (0B0)"});
  const std::string broken = folder.write("own.csv", "0F0,0B0\n1F0,1B\n");
  expect_parts(schedule_program({"--csv", broken}), 2, {broken, "line 2, cell 2", "\"1B\""});
  expect_parts(schedule_program({"--csv", "/no/such.csv"}), 2, {"/no/such.csv"});
}

TEST(ScheduleCommand, UsageErrorsExitWithTwo) {
  expect_parts(schedule_program({}), 2, {"--pp and --microbatches, or --csv"});
  expect_parts(schedule_program({"--pp", "2"}), 2, {"--pp and --microbatches"});
  expect_parts(schedule_program({"--pp", "4", "--microbatches", "3"}), 2,
               {"1F1B", "3 microbatches for 4 stages"});
  expect_parts(schedule_program({"--schedule", "2F2B", "--pp", "2", "--microbatches", "4"}), 2,
               {"\"2F2B\"", "GPipe"});
  expect_parts(schedule_program({"--csv", "a.csv", "--pp", "2"}), 2, {"--csv", "none of"});
  expect_parts(schedule_program({"--pp", "two", "--microbatches", "4"}), 2, {"--pp"});
  const auto with_costs = [](const char* costs) {
    return schedule_program({"--pp", "2", "--microbatches", "4", "--costs", costs});
  };
  expect_parts(with_costs("1,2,3"), 2, {"--costs: got 3 numbers"});
  expect_parts(with_costs("1,-2"), 2, {"backward costs -2"});
}

TEST(ScheduleCommand, AFileThatCannotBeWrittenExitsWithOne) {
  expect_parts(schedule_program({"--pp", "2", "--microbatches", "4", "--svg", "/no/such/a.svg"}), 1,
               {"--svg", "/no/such/a.svg"});
  expect_parts(
      schedule_program({"--pp", "2", "--microbatches", "4", "--write-csv", "/no/such/a.csv"}), 1,
      {"--write-csv", "/no/such/a.csv"});
}

}  // namespace
}  // namespace tessera
