// Runs of several ranks as real processes, by `tessera launch`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/trainer/job/job_fixture.h"
#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::JobFixture;
using testing::ProcessResult;
using testing::run_process;

ProcessResult launch(const JobFixture& job, int num_ranks,
                     const std::vector<std::string>& overrides) {
  std::vector<std::string> command = {
      TESSERA_BINARY, "launch", "--nproc",  std::to_string(num_ranks),
      "--",           "train",  "--config", job.config()};
  command.insert(command.end(), overrides.begin(), overrides.end());
  return run_process(command);
}

std::vector<StepRecord> records_of(const std::string& folder) {
  return read_metrics(folder + "/metrics.jsonl");
}

// A step has the same 4 rows under any layout.
const std::vector<std::string> kFourRows = {"--training.global_batch_size", "4"};

std::vector<std::string> with(std::vector<std::string> overrides,
                              const std::vector<std::string>& more) {
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

TEST(MultiRank, EveryLayoutHasTheCurveOfOneRank) {
  const JobFixture job;
  const auto run = [&](int num_ranks, const std::string& name,
                       const std::vector<std::string>& overrides) {
    const std::string folder = job.path(name);
    const ProcessResult result =
        launch(job, num_ranks, with(with(kFourRows, {"--job.dump_folder", folder}), overrides));
    EXPECT_EQ(result.status, 0) << result.output;
    return records_of(folder);
  };
  const std::vector<StepRecord> one = run(1, "one", {});
  ASSERT_EQ(one.size(), 4u);
  const std::vector<std::vector<StepRecord>> others = {
      run(2, "fsdp", {}),
      run(2, "tp", {"--parallelism.tensor_parallel_degree", "2"}),
      run(2, "ddp", {"--parallelism.data_parallel_replicate_degree", "2"}),
      run(2, "cp",
          {"--parallelism.context_parallel_degree", "2",
           "--parallelism.context_parallel_rotate_method", "needed_kv",
           "--parallelism.context_parallel_load_balancer", "min_heap"}),
      run(2, "pp",
          {"--parallelism.pipeline_parallel_degree", "2",
           "--parallelism.pipeline_parallel_schedule", "Interleaved1F1B"}),
      run(4, "pp_cp",
          {"--parallelism.pipeline_parallel_degree", "2", "--parallelism.context_parallel_degree",
           "2", "--parallelism.context_parallel_rotate_method", "alltoall"}),
  };
  for (const auto& records : others) {
    ASSERT_EQ(records.size(), one.size());
    for (size_t i = 0; i < one.size(); ++i) {
      EXPECT_NEAR(records[i].loss, one[i].loss, 1e-5 * one[i].loss);
      EXPECT_NEAR(records[i].grad_norm, one[i].grad_norm, 1e-4 * one[i].grad_norm);
      EXPECT_EQ(records[i].num_tokens, one[i].num_tokens);
    }
  }
  EXPECT_TRUE(fs::exists(job.path("fsdp") + "/train.rank-1.log"));
  EXPECT_THAT(testing::content_of(job.path("cp") + "/train.log"),
              ::testing::HasSubstr("context parallel: 2 ranks, needed_kv, balanced by min_heap"));
}

// Text has documents of any length.
TEST(MultiRank, DocumentsThatABalancerCannotShareAreRefused) {
  const JobFixture job;
  const ProcessResult result = launch(
      job, 2,
      with(kFourRows, {"--parallelism.context_parallel_degree", "2",
                       "--parallelism.context_parallel_load_balancer", "document_head_tail"}));
  EXPECT_EQ(result.status, 1) << result.output;
  EXPECT_THAT(result.output, ::testing::HasSubstr("document_head_tail: "));
  EXPECT_THAT(result.output, ::testing::HasSubstr(" tokens, expected "));
}

// Two ranks save a run; two ranks and one rank go on with it.
TEST(MultiRank, AResumedRunContinuesTheCurve) {
  const JobFixture job;
  const std::string whole = job.path("whole"), parts = job.path("parts");
  const auto saving = with(kFourRows, {"--checkpoint.enable", "--checkpoint.interval", "2",
                                       "--lr_scheduler.total_steps", "4"});
  const auto run = [&](int num_ranks, const std::string& folder, const std::string& steps) {
    const ProcessResult result =
        launch(job, num_ranks,
               with(saving, {"--job.dump_folder", folder, "--training.steps", steps,
                             "--checkpoint.no_last_save_model_only"}));
    EXPECT_EQ(result.status, 0) << result.output;
  };
  run(2, whole, "4");
  run(2, parts, "2");
  fs::copy(parts, job.path("alone"), fs::copy_options::recursive);
  run(2, parts, "4");
  run(1, job.path("alone"), "4");
  const std::vector<StepRecord> expected = records_of(whole), same = records_of(parts),
                                alone = records_of(job.path("alone"));
  ASSERT_EQ(same.size(), 4u);
  ASSERT_EQ(alone.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(same[i].loss, expected[i].loss);
    EXPECT_EQ(same[i].grad_norm, expected[i].grad_norm);
    EXPECT_NEAR(alone[i].loss, expected[i].loss, 1e-5 * expected[i].loss);
  }
}

double overlap(const std::vector<std::pair<double, double>>& spans, double begin, double end) {
  double covered = 0, at = begin;
  for (const auto& [from, to] : spans) {  // sorted by start
    const double low = std::max(at, from), high = std::min(end, to);
    if (high > low) covered += high - low;
    at = std::max(at, high);
  }
  return covered;
}

TEST(MultiRank, TracesShowMostOfTheGatheringUnderComputation) {
  const JobFixture job;
  const ProcessResult result =
      launch(job, 2,
             {"--profiling.enable_profiling", "--profiling.profile_freq", "3", "--training.steps",
              "3", "--training.seq_len", "1024", "--training.local_batch_size", "1"});
  ASSERT_EQ(result.status, 0) << result.output;
  double gathering = 0, hidden = 0;
  for (int rank = 0; rank < 2; ++rank) {
    const std::string path = job.dump_folder() + "/profile_traces/iteration_3/rank" +
                             std::to_string(rank) + "_trace.json";
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    // Gloo's threads have the spans of collectives and of the copies around them; operators on
    // other threads compute.
    std::vector<std::pair<double, double>> compute, gathers;
    std::set<std::string> gloo_threads;
    const nlohmann::json events = nlohmann::json::parse(file)["traceEvents"];
    for (const auto& event : events) {
      if (event.value("name", "").rfind("gloo:", 0) == 0) gloo_threads.insert(event["tid"].dump());
    }
    for (const auto& event : events) {
      if (event.value("ph", "") != "X") continue;
      const std::string name = event["name"];
      const double begin = event["ts"], end = begin + event["dur"].get<double>();
      if (name == "gloo:all_gather") gathers.emplace_back(begin, end);
      if (name.rfind("aten::", 0) == 0 && !gloo_threads.contains(event["tid"].dump())) {
        compute.emplace_back(begin, end);
      }
    }
    ASSERT_FALSE(gathers.empty()) << path;
    ASSERT_FALSE(compute.empty()) << path;
    std::sort(compute.begin(), compute.end());
    for (const auto& [begin, end] : gathers) {
      gathering += end - begin;
      hidden += overlap(compute, begin, end);
    }
  }
  EXPECT_GE(hidden, 0.5 * gathering);
}

}  // namespace
}  // namespace tessera
