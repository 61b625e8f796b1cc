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

using Span = std::pair<double, double>;  // of time, in us

// What a rank's trace has of a step. Gloo's threads have the spans of collectives and of the copies
// around them; operators on other threads compute.
struct TraceSpans {
  std::vector<Span> gathers;
  std::vector<Span> products;  // of matrices
};

TraceSpans spans_of(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  const nlohmann::json events = nlohmann::json::parse(file)["traceEvents"];
  std::set<std::string> gloo_threads;
  for (const auto& event : events) {
    if (event.value("name", "").rfind("gloo:", 0) == 0) gloo_threads.insert(event["tid"].dump());
  }
  TraceSpans spans;
  for (const auto& event : events) {
    if (event.value("ph", "") != "X") continue;
    const double begin = event["ts"];
    const Span span = {begin, begin + event["dur"].get<double>()};
    const bool computes = !gloo_threads.contains(event["tid"].dump());
    if (event["name"] == "gloo:all_gather") spans.gathers.push_back(span);
    if (event["name"] == "aten::mm" && computes) spans.products.push_back(span);
  }
  return spans;
}

// A rank that waited for each gather before it computed would have no product under any of them.
// How much of the gathering is hidden depends on the machine.
TEST(MultiRank, TracesShowGatheringUnderComputation) {
  const JobFixture job;
  const ProcessResult result =
      launch(job, 2,
             {"--profiling.enable_profiling", "--profiling.profile_freq", "3", "--training.steps",
              "3", "--training.seq_len", "1024", "--training.local_batch_size", "1"});
  ASSERT_EQ(result.status, 0) << result.output;
  for (int rank = 0; rank < 2; ++rank) {
    const TraceSpans spans = spans_of(job.dump_folder() + "/profile_traces/iteration_3/rank" +
                                      std::to_string(rank) + "_trace.json");
    EXPECT_FALSE(spans.products.empty());
    const auto is_hidden = [&](const Span& gather) {
      return std::any_of(spans.products.begin(), spans.products.end(), [&](const Span& product) {
        return gather.first < product.second && product.first < gather.second;
      });
    };
    EXPECT_GT(std::count_if(spans.gathers.begin(), spans.gathers.end(), is_hidden), 0)
        << "of " << spans.gathers.size() << " gathers of rank " << rank;
  }
}

}  // namespace
}  // namespace tessera
