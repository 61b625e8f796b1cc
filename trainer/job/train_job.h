// A training job: everything between a validated configuration and the files that a run leaves
// behind. In a run of several ranks each has one; they read rows of their own and act alike.
//
//   TrainJob job(config, read_environment());
//   const JobEnd end = job.run([&] { return interrupt.requested(); });
//
// Below job.dump_folder: metrics.jsonl (a record per step), loss.svg, config.toml (as resolved),
// train.log, and, when enabled, checkpoint/step-N/ and profile_traces/. Rank 0 writes the run's
// files and the console; the others write train.rank-N.log, and warnings to the console.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attention/registry/registry.h"
#include "configs/job_config.h"
#include "data/loader/dataloader.h"
#include "models/model.h"
#include "parallel/comm/device_mesh.h"
#include "trainer/checkpoint/job_checkpoints.h"
#include "trainer/job/job_layout.h"
#include "trainer/launch/environment.h"
#include "trainer/metrics/metric_sink.h"
#include "trainer/metrics/progress.h"
#include "trainer/metrics/step_traces.h"
#include "trainer/step/mask_builder.h"
#include "trainer/step/parameter_store.h"
#include "trainer/step/rank_model.h"
#include "trainer/step/training_step.h"
#include "trainer/support/extensions.h"
#include "trainer/support/logging.h"

namespace tessera {

enum class JobEnd { kFinished, kInterrupted };

class TrainJob {
 public:
  // Plans the layout, opens the data set, joins the other ranks, builds the model, proves the dump
  // folder writable, prints the start banner and loads the checkpoint to go on from. Throws, before
  // any work is lost, ConfigError (a layout that does not fit, configurations that differ between
  // ranks), c10::Error (extension, tokenizer, data set, model, dump folder, checkpoint) or
  // CommError (a rank is missing).
  TrainJob(const JobConfig& config, const Environment& environment);
  ~TrainJob();

  // Writes the records of the steps to come to `sink` as well, after the sinks that the
  // configuration asks for. Only rank 0 has records; the sinks of other ranks get none.
  void add_metric_sink(std::unique_ptr<MetricSink> sink) { sinks_.push_back(std::move(sink)); }

  // Trains until training.steps are done or stop_requested() is true after a step, on any rank.
  // Whatever ends it, also an exception, metrics and curve are on disk. Throws NonFiniteError with
  // the step's number when the loss or a gradient is not finite, CommError naming the ranks that
  // are lost, and c10::Error when a file cannot be written.
  JobEnd run(const std::function<bool()>& stop_requested);

 private:
  struct Timing {
    double data_s = 0;
    double step_s = 0;
  };

  bool is_main() const { return mesh_.world().rank() == 0; }
  void open_data(const Registries& registries);
  void build_model(Registries& registries);
  void open_log();
  void make_step();
  void open_outputs();
  void start_from_checkpoint();
  void check_vocabulary() const;
  void log_context_forecast(const Batch& batch);
  std::vector<Batch> next_microbatches();
  StepRecord run_step(int64_t step);
  StepRecord make_record(int64_t step, const StepResult& result, double lr,
                         const Timing& timing) const;
  void report(const StepRecord& record);
  void write_curve();
  void say_where_files_are() const;
  bool any_rank(bool here) const;
  [[noreturn]] void name_lost_ranks(const CommError& error) const;

  JobConfig config_;
  JobLayout layout_;
  at::Device device_;
  DeviceMesh mesh_;
  Logger log_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Model> model_;  // the whole, for facts: without storage, and not trained
  CreateMaskFn create_mask_fn_;
  std::unique_ptr<RankModel> rank_model_;  // what this rank trains
  std::unique_ptr<TrainingStep> step_;
  std::unique_ptr<DataLoader> loader_;
  std::unique_ptr<JobCheckpoints> checkpoints_;
  MetricSinks sinks_;  // rank 0 writes to them
  std::unique_ptr<StepTraces> traces_;
  std::optional<double> peak_flops_;
  int64_t num_documents_ = 0;
  int64_t first_step_ = 1;
};

}  // namespace tessera
