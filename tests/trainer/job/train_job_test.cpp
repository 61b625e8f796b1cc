#include "trainer/job/train_job.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "configs/load_config.h"
#include "tests/support/errors.h"
#include "tests/trainer/job/job_fixture.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

using testing::JobFixture;
namespace fs = std::filesystem;

JobEnd run_job(const JobFixture& job, const std::vector<std::string>& overrides,
               int64_t stop_after = 1000) {
  TrainJob train(load_config(job.config(), overrides).config, Environment{});
  int64_t num_steps = 0;
  return train.run([&] { return ++num_steps >= stop_after; });
}

std::vector<StepRecord> metrics_of(const std::string& dump_folder) {
  return read_metrics(dump_folder + "/metrics.jsonl");
}

void expect_same_curve(const std::vector<StepRecord>& a, const std::vector<StepRecord>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].step, b[i].step);
    EXPECT_EQ(a[i].loss, b[i].loss) << "step " << a[i].step;
    EXPECT_EQ(a[i].grad_norm, b[i].grad_norm) << "step " << a[i].step;
    EXPECT_EQ(a[i].lr, b[i].lr) << "step " << a[i].step;
  }
}

TEST(TrainJobTest, LeavesMetricsCurveConfigAndLog) {
  const JobFixture job;
  EXPECT_EQ(run_job(job, {}), JobEnd::kFinished);
  const std::vector<StepRecord> records = metrics_of(job.dump_folder());
  ASSERT_EQ(records.size(), 4u);
  EXPECT_LT(records.back().loss, records.front().loss);
  EXPECT_NEAR(records.front().loss, std::log(2048.0), 1.0);  // a fresh model guesses
  for (const StepRecord& record : records) {
    EXPECT_EQ(record.num_tokens, 2 * 48);
    EXPECT_EQ(record.loss, record.max_loss);
    EXPECT_GT(record.step_s, record.data_s);
    EXPECT_FALSE(record.mfu.has_value()) << "nobody knows a CPU's peak";
  }
  for (const char* name : {"loss.svg", "config.toml", "train.log"}) {
    EXPECT_GT(fs::file_size(job.dump_folder() + "/" + name), 100u) << name;
  }
  const JobConfig saved = load_config(job.dump_folder() + "/config.toml", {}).config;
  EXPECT_EQ(saved.training, load_config(job.config(), {}).config.training);
}

// A sink of the test's own, which keeps what it gets.
class KeepingSink final : public MetricSink {
 public:
  explicit KeepingSink(std::vector<StepRecord>& records) : records_(records) {}
  void write(const StepRecord& record) override { records_.push_back(record); }

 private:
  std::vector<StepRecord>& records_;
};

TEST(TrainJobTest, ASinkGetsEveryRecord) {
  const JobFixture job;
  std::vector<StepRecord> records;
  TrainJob train(load_config(job.config(), {}).config, Environment{});
  train.add_metric_sink(std::make_unique<KeepingSink>(records));
  train.run([] { return false; });
  EXPECT_EQ(records.size(), 4u);
  EXPECT_TRUE(records == metrics_of(job.dump_folder()));
}

TEST(TrainJobTest, TwoRunsAreBitwiseEqual) {
  const JobFixture job;
  run_job(job, {"--job.dump_folder", job.path("a")});
  run_job(job, {"--job.dump_folder", job.path("b")});
  expect_same_curve(metrics_of(job.path("a")), metrics_of(job.path("b")));
}

TEST(TrainJobTest, AccumulationIsTheSameRun) {
  const JobFixture job;
  run_job(job, {"--job.dump_folder", job.path("whole"), "--training.local_batch_size=4"});
  run_job(job, {"--job.dump_folder", job.path("parts"), "--training.local_batch_size=1",
                "--training.global_batch_size=4"});
  const std::vector<StepRecord> whole = metrics_of(job.path("whole")),
                                parts = metrics_of(job.path("parts"));
  ASSERT_EQ(whole.size(), parts.size());
  for (size_t i = 0; i < whole.size(); ++i)
    EXPECT_NEAR(whole[i].loss, parts[i].loss, 1e-5 * whole[i].loss);
}

TEST(TrainJobTest, AResumedRunContinuesTheCurveBitForBit) {
  const JobFixture job;
  run_job(job, {"--job.dump_folder", job.path("whole"), "--training.dataset_shuffle"});
  const std::vector<std::string> resumable = {"--training.dataset_shuffle", "--checkpoint.enable",
                                              "--checkpoint.interval", "2"};
  EXPECT_EQ(run_job(job, resumable, /*stop_after=*/3), JobEnd::kInterrupted);
  EXPECT_EQ(metrics_of(job.dump_folder()).size(), 3u);
  EXPECT_EQ(checkpoint_steps(job.dump_folder() + "/checkpoint"), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(run_job(job, resumable), JobEnd::kFinished);
  expect_same_curve(metrics_of(job.dump_folder()), metrics_of(job.path("whole")));
}

TEST(TrainJobTest, RecordsAfterTheLoadedStepAreDropped) {
  const JobFixture job;
  const std::vector<std::string> overrides = {"--checkpoint.enable", "--checkpoint.interval", "2",
                                              "--checkpoint.no_last_save_model_only"};
  run_job(job, overrides);
  const std::vector<StepRecord> whole = metrics_of(job.dump_folder());
  std::vector<std::string> from_2 = overrides;
  from_2.insert(from_2.end(), {"--checkpoint.load_step", "2"});
  EXPECT_EQ(run_job(job, from_2, /*stop_after=*/1), JobEnd::kInterrupted);
  const std::vector<StepRecord> again = metrics_of(job.dump_folder());
  ASSERT_EQ(again.size(), 3u);
  expect_same_curve(again, {whole.begin(), whole.begin() + 3});
}

TEST(TrainJobTest, InitialWeightsComeFromAnotherRunsCheckpoint) {
  const JobFixture job;
  run_job(job, {"--checkpoint.enable", "--job.dump_folder", job.path("first")});
  run_job(job, {"--checkpoint.enable", "--job.dump_folder", job.path("second"),
                "--checkpoint.initial_load_path", job.path("first/checkpoint/step-4")});
  EXPECT_LT(metrics_of(job.path("second")).front().loss,
            metrics_of(job.path("first")).front().loss);
}

TEST(TrainJobTest, StopsAtANonFiniteLossAndKeepsWhatThereIs) {
  const JobFixture job;
  EXPECT_ERROR(run_job(job, {"--optimizer.lr", "1e38", "--training.steps", "20"}), "step",
               "first seen in", "the parameters are those of step");
  EXPECT_GE(metrics_of(job.dump_folder()).size(), 1u);
  EXPECT_TRUE(fs::exists(job.dump_folder() + "/loss.svg"));
}

TEST(TrainJobTest, RefusesBeforeAnyWork) {
  const JobFixture job;
  EXPECT_ERROR(run_job(job, {"--training.dataset_path", "/no/such/folder"}),
               "training.dataset_path", "/no/such/folder");
  EXPECT_ERROR(run_job(job, {"--job.dump_folder", "/proc/tessera"}), "job.dump_folder",
               "/proc/tessera");
  EXPECT_ERROR(run_job(job, {"--model.flavor", "9B"}), "9B", "debugmodel", "405B");
  EXPECT_ERROR(run_job(job, {"--model.attention", "magic"}), "magic", "eager", "sdpa");
  EXPECT_ERROR(run_job(job, {"--model.mask", "causal & "}), "column");
  EXPECT_ERROR(run_job(job, {"--model.tokenizer", "bpe"}), "model.tokenizer", "\"bpe\"",
               "auto, bytes");
  EXPECT_ERROR(run_job(job, {"--checkpoint.enable", "--checkpoint.load_step", "3"}),
               "checkpoint.load_step is 3");
  EXPECT_ERROR(TrainJob(load_config(job.config(), {"--training.global_batch_size", "4"}).config,
                        Environment{.rank = 0, .world_size = 3}),
               "training.global_batch_size", "2 x 3, got 4");
  EXPECT_FALSE(fs::exists(job.dump_folder() + "/metrics.jsonl"));
}

TEST(TrainJobTest, InvalidUtf8IsReplacedOrRefused) {
  const JobFixture job;
  job.folder().write("data/bad.cpp", "int a = \xff\xfe;\n");
  EXPECT_EQ(run_job(job, {"--training.steps", "40", "--training.seq_len", "96"}),
            JobEnd::kFinished);
  EXPECT_ERROR(run_job(job, {"--training.steps", "40", "--training.seq_len", "96",
                             "--training.invalid_utf8", "refuse"}),
               "bad.cpp", "UTF-8");
}

}  // namespace
}  // namespace tessera
