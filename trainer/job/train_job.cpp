#include "trainer/job/train_job.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <chrono>

#include "configs/load_config.h"
#include "trainer/job/config_agreement.h"
#include "trainer/job/job_parts.h"
#include "trainer/metrics/memory.h"
#include "trainer/metrics/metrics.h"
#include "trainer/metrics/peak_flops.h"
#include "trainer/metrics/run_summary.h"
#include "trainer/pictures/loss_plot.h"
#include "trainer/step/lr_schedule.h"
#include "trainer/support/device.h"
#include "trainer/support/extensions.h"
#include "trainer/support/output_dir.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string resolved_config_path(const JobSection& job) {
  return job.dump_folder + "/" + job.save_config_file.value_or("config.toml");
}

// Calls a function when it goes out of scope, also by an exception.
class AtExit {
 public:
  explicit AtExit(std::function<void()> function) : function_(std::move(function)) {}
  ~AtExit() { function_(); }
  AtExit(const AtExit&) = delete;
  AtExit& operator=(const AtExit&) = delete;

 private:
  std::function<void()> function_;
};

// What became of the others, as the end of a sentence. Whoever is lost or has ended is the cause,
// also when it is of another group: its peers fail first, and then theirs.
std::string verdict_of(const OtherRanks& others) {
  if (!others.lost.empty()) {
    return c10::str("; no word from rank ", c10::Join(", ", others.lost), ": it died or hangs");
  }
  if (!others.ended.empty()) {
    return c10::str("; rank ", c10::Join(", ", others.ended), " has ended before");
  }
  if (!others.going.empty()) {
    return c10::str("; every rank still answers, and rank ", c10::Join(", ", others.going),
                    " has met no error: it is slow, or waits for something else");
  }
  return "; every rank still answers";
}

}  // namespace

TrainJob::TrainJob(const JobConfig& config, const Environment& environment)
    : config_(config),
      layout_(plan_layout(config, environment.world_size)),
      device_(choose_device(environment.local_rank)) {
  Registries registries = make_registries(config_.experimental.custom_import);
  open_data(registries);
  const World world = join_world(environment, config_, device_);
  check_same_config(config_, world);
  mesh_ = DeviceMesh(world, layout_.dims);
  build_model(registries);
  check_vocabulary();
  open_log();
  if (is_main()) {
    log_.info(
        start_banner(banner_info(config_, layout_, *model_, *tokenizer_, num_documents_, device_)));
  }

  make_step();
  peak_flops_ = peak_bf16_flops(device_name(device_));
  start_from_checkpoint();
  open_outputs();
}

TrainJob::~TrainJob() = default;

void TrainJob::open_data(const Registries& registries) {
  tokenizer_ = open_tokenizer(config_, registries);
  std::unique_ptr<TextSource> dataset = open_dataset(config_);
  num_documents_ = dataset->num_documents();
  loader_ =
      std::make_unique<DataLoader>(std::move(dataset), tokenizer_, dataloader_options(config_));
}

// Rank 0 proves the folder writable before the others use it.
void TrainJob::open_log() {
  const std::string& folder = config_.job.dump_folder;
  if (is_main())
    prepare_output_dir(folder, expected_output_bytes(config_, model_->num_parameters()));
  mesh_.all().barrier();
  const std::string rank = is_main() ? "" : ".rank-" + std::to_string(mesh_.world().rank());
  log_ = Logger({.file = folder + "/train" + rank + ".log",
                 .color = !config_.metrics.disable_color_printing,
                 .quiet = !is_main()});
}

void TrainJob::build_model(Registries& registries) {
  registries.attention.set_watch(std::make_shared<AttentionWatch>(
      [this](const AttentionUse& use) { log_.info(to_string(use)); }));
  const MakeModel make = model_maker(config_, device_, registries);
  model_ =
      make({.tensor = TensorParallel(mesh_.tp(), config_.parallelism.enable_sequence_parallel)});
  create_mask_fn_ = mask_function(config_, device_, registries, model_->mask_config());
  rank_model_ = std::make_unique<RankModel>(
      rank_model_options(config_, layout_, mesh_, device_, work_weights(*model_)), make);
}

void TrainJob::make_step() {
  rank_model_->materialise(*tokenizer_, create_mask_fn_);
  step_ = std::make_unique<TrainingStep>(*rank_model_, training_step_options(config_));
}

void TrainJob::check_vocabulary() const {
  const int64_t embedded = model_->vocab_size();
  TORCH_CHECK(tokenizer_->vocab_size() <= embedded, "the tokenizer ", tokenizer_->name(), " has ",
              tokenizer_->vocab_size(), " ids, but model.flavor ", config_.model.flavor, " embeds ",
              embedded, "; expected at most that many");
}

void TrainJob::start_from_checkpoint() {
  checkpoints_ = std::make_unique<JobCheckpoints>(config_, *model_, rank_model_->parameters(),
                                                  step_->optimizer(), *loader_, log_, mesh_);
  first_step_ = checkpoints_->load() + 1;
}

void TrainJob::open_outputs() {
  traces_ = std::make_unique<StepTraces>(config_.profiling, config_.job.dump_folder,
                                         mesh_.world().rank());
  if (!is_main()) return;
  write_file_atomically(resolved_config_path(config_.job), to_toml(config_));
  sinks_ = open_metric_sinks(config_, first_step_ - 1, log_);
}

JobEnd TrainJob::run(const std::function<bool()>& stop_requested) {
  const AtExit leave_curve([this] {
    if (is_main()) write_curve();
  });
  const Progress progress(log_);
  const Clock::time_point start = Clock::now();
  const int64_t num_steps = config_.training.steps;
  bool stopping = false;
  for (int64_t step = first_step_; step <= num_steps && !stopping; ++step) {
    try {
      const StepRecord record = run_step(step);
      stopping = any_rank(stop_requested());
      report(record);
      progress.update({.step = step,
                       .num_steps = num_steps,
                       .first_step = first_step_ - 1,
                       .loss = record.loss,
                       .tps = record.tps,
                       .elapsed_s = seconds_since(start)});
      checkpoints_->save_if_due(step, stopping);
    } catch (const CommError& error) {
      name_lost_ranks(error);
    }
    if (step == first_step_) {
      mesh_.world().set_timeout(std::chrono::seconds(config_.comm.train_timeout_seconds));
    }
  }
  progress.clear();
  say_where_files_are();
  return stopping ? JobEnd::kInterrupted : JobEnd::kFinished;
}

std::vector<Batch> TrainJob::next_microbatches() {
  const int64_t rows = config_.training.local_batch_size;
  const int64_t first = mesh_.batch_index() * rows;
  std::vector<Batch> microbatches;
  for (int64_t i = 0; i < layout_.num_microbatches; ++i) {
    const Batch own_rows =
        loader_->next({.first = first, .count = rows, .stride = rows * layout_.num_data_ranks});
    microbatches.push_back(own_rows.to(device_));
  }
  return microbatches;
}

StepRecord TrainJob::run_step(int64_t step) {
  const Clock::time_point start = Clock::now();
  Timing timing;
  const std::vector<Batch> microbatches = next_microbatches();
  timing.data_s = seconds_since(start);
  if (step == first_step_ && mesh_.cp().size() > 1) log_context_forecast(microbatches.front());
  traces_->before_step(step);
  const double lr = config_.optimizer.lr * lr_factor(lr_schedule_options(config_), step - 1);
  StepResult result;
  try {
    result = step_->run(microbatches, lr);
  } catch (const NonFiniteError& error) {
    throw NonFiniteError("step " + std::to_string(step) + ": " + error.what() +
                         "; the parameters are those of step " + std::to_string(step - 1));
  }
  timing.step_s = seconds_since(start);
  const std::string trace = traces_->after_step(step);
  if (!trace.empty()) log_.info("trace of step " + std::to_string(step) + ": " + trace);
  return make_record(step, result, lr, timing);
}

// Logs the forecast for the rows that one plan shares: with a pipeline, one of its microbatches.
void TrainJob::log_context_forecast(const Batch& batch) {
  const int64_t rows =
      layout_.pipeline ? config_.parallelism.pipeline_parallel_microbatch_size : batch.batch_size();
  const ContextForecast forecast = rank_model_->masks().forecast(*model_, batch.rows(0, rows));
  log_.info("context parallel: " + to_string(forecast) + " (first microbatch)");
  constexpr int64_t kSlowTile = 16;
  if (forecast.tile > kSlowTile) return;
  const bool by_document = forecast.balancer == LoadBalancer::kDocumentHeadTail;
  log_.warning((by_document ? "documents of these lengths"
                            : "training.seq_len = " + std::to_string(batch.seq_len())) +
               " can be shared by " + std::to_string(forecast.num_ranks) + " ranks in tiles of " +
               std::to_string(forecast.tile) +
               " tokens only, which makes attention slow; expected a multiple of " +
               std::to_string(forecast.length_multiple));
}

StepRecord TrainJob::make_record(int64_t step, const StepResult& result, double lr,
                                 const Timing& timing) const {
  const int64_t num_tokens = layout_.global_batch_size * config_.training.seq_len;
  const auto num_ranks = static_cast<double>(layout_.num_ranks);
  const double tps = static_cast<double>(num_tokens) / timing.step_s / num_ranks;
  const double flops =
      static_cast<double>(model_->num_flops_per_token(config_.training.seq_len)) * tps;
  return {.step = step,
          .loss = result.loss,
          .max_loss = result.max_loss,
          .grad_norm = result.grad_norm,
          .lr = lr,
          .num_tokens = num_tokens,
          .step_s = timing.step_s,
          .data_s = timing.data_s,
          .tps = tps,
          .tflops = flops / 1e12,
          .mfu = peak_flops_ ? std::optional(100.0 * flops / *peak_flops_) : std::nullopt,
          .memory_gib = memory_use(device_).peak_gib};
}

void TrainJob::report(const StepRecord& record) {
  if (is_main()) {
    for (const auto& sink : sinks_) sink->write(record);
  }
  checkpoints_->add_tokens(record.num_tokens);
  if (record.step == first_step_ || record.step % config_.metrics.log_freq == 0) {
    log_.info(
        console_line(record, {.color = true, .memory_total_gib = memory_use(device_).total_gib}));
  }
}

void TrainJob::write_curve() {
  try {
    write_loss_svg(config_.job.dump_folder + "/loss.svg",
                   read_metrics(metrics_path(config_.job.dump_folder)),
                   {.title = model_->description() + " on " + config_.training.dataset});
  } catch (const std::exception& error) {
    log_.warning(std::string("no loss.svg: ") + error.what());
  }
}

bool TrainJob::any_rank(bool here) const {
  const at::Tensor flag = at::full({1}, here ? 1.0 : 0.0, at::TensorOptions().device(device_));
  mesh_.all().all_reduce(flag, ReduceOp::kMax).wait();
  return flag.item<float>() > 0;
}

void TrainJob::name_lost_ranks(const CommError& error) const {
  const std::string here = "rank " + std::to_string(mesh_.world().rank()) + ": " + error.what();
  OtherRanks others;
  try {
    others = mesh_.world().report_failure();
  } catch (const CommError& store_error) {
    throw CommError(here + "; which rank is lost cannot be told: " + store_error.what(),
                    error.ranks);
  }
  throw CommError(here + verdict_of(others), error.ranks);
}

void TrainJob::say_where_files_are() const {
  if (!is_main()) return;
  const std::string& folder = config_.job.dump_folder;
  const SourceStats& data = loader_->stats();
  if (data.num_invalid_utf8_documents > 0) {
    log_.warning(std::to_string(data.num_invalid_utf8_documents) +
                 " documents held invalid UTF-8, replaced by U+FFFD");
  }
  if (data.num_empty_documents > 0)
    log_.info(std::to_string(data.num_empty_documents) + " empty documents skipped");
  log_.info("metrics     " + metrics_path(folder));
  log_.info("loss curve  " + folder + "/loss.svg");
  log_.info("config      " + resolved_config_path(config_.job));
  log_.info("log         " + folder + "/train.log");
  if (config_.checkpoint.enable) log_.info("checkpoints " + checkpoints_->folder());
}

}  // namespace tessera
