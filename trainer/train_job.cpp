#include "trainer/train_job.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <chrono>

#include "attention/mask_registry.h"
#include "configs/load_config.h"
#include "parallel/activation_checkpoint.h"
#include "trainer/job_parts.h"
#include "trainer/loss_plot.h"
#include "trainer/lr_schedule.h"
#include "trainer/memory.h"
#include "trainer/output_dir.h"
#include "trainer/peak_flops.h"
#include "trainer/run_summary.h"

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

}  // namespace

TrainJob::TrainJob(const JobConfig& config, const Environment& environment)
    : config_(config), device_(choose_device(environment)) {
  TORCH_CHECK(environment.world_size == 1, "WORLD_SIZE is ", environment.world_size,
              "; this version trains in one process (expected 1)");
  build_model();
  tokenizer_ = std::make_shared<ByteTokenizer>();
  check_vocabulary();
  std::unique_ptr<TextSource> dataset = open_dataset(config_);
  num_documents_ = dataset->num_documents();
  loader_ =
      std::make_unique<DataLoader>(std::move(dataset), tokenizer_, dataloader_options(config_));

  prepare_output_dir(config_.job.dump_folder,
                     expected_output_bytes(config_, model_->num_parameters()));
  log_ = Logger({.file = config_.job.dump_folder + "/train.log",
                 .color = !config_.metrics.disable_color_printing});
  log_.info(start_banner(banner_info(config_, *model_, *tokenizer_, num_documents_, device_)));

  parameters_ = std::make_unique<ParameterStore>(*model_, parameter_store_options(config_, device_),
                                                 job_seed(config_));
  step_ = std::make_unique<TrainingStep>(*model_, *parameters_, *tokenizer_, create_mask_fn_,
                                         training_step_options(config_));
  peak_flops_ = peak_bf16_flops(device_name(device_));
  start_from_checkpoint();
  open_outputs();
}

TrainJob::~TrainJob() = default;

void TrainJob::build_model() {
  const AttentionRegistry attention = AttentionRegistry::with_builtins();
  model_ = make_model(model_request(config_, device_), attention);
  create_mask_fn_ = MaskRegistry::with_builtins().create_mask_fn(
      attention.get(attention_backend(config_, device_)).mask_form, model_->mask_config());
  checkpoint_every_nth_layer(model_->blocks(), recompute_every_nth_layer(config_));
}

void TrainJob::check_vocabulary() const {
  const int64_t embedded = model_->head_weight().size(0);
  TORCH_CHECK(tokenizer_->vocab_size() <= embedded, "the tokenizer ", tokenizer_->name(), " has ",
              tokenizer_->vocab_size(), " ids, but model.flavor ", config_.model.flavor, " embeds ",
              embedded, "; expected at most that many");
}

void TrainJob::start_from_checkpoint() {
  checkpoints_ = std::make_unique<JobCheckpoints>(config_, *model_, *parameters_,
                                                  step_->optimizer(), *loader_, log_);
  first_step_ = checkpoints_->load() + 1;
}

void TrainJob::open_outputs() {
  write_file_atomically(resolved_config_path(config_.job), to_toml(config_));
  metrics_ =
      std::make_unique<MetricsFile>(config_.job.dump_folder + "/metrics.jsonl", first_step_ - 1);
  if (metrics_->num_dropped() > 0) {
    log_.info("metrics.jsonl: dropped " + std::to_string(metrics_->num_dropped()) +
              " records of an earlier run after step " + std::to_string(first_step_ - 1));
  }
}

JobEnd TrainJob::run(const std::function<bool()>& stop_requested) {
  const AtExit leave_curve([this] { write_curve(); });
  const Progress progress(log_);
  const Clock::time_point start = Clock::now();
  const int64_t num_steps = config_.training.steps;
  bool stopping = false;
  for (int64_t step = first_step_; step <= num_steps && !stopping; ++step) {
    const StepRecord record = run_step(step);
    report(record);
    progress.update({.step = step,
                     .num_steps = num_steps,
                     .first_step = first_step_ - 1,
                     .loss = record.loss,
                     .tps = record.tps,
                     .elapsed_s = seconds_since(start)});
    stopping = stop_requested();
    checkpoints_->save_if_due(step, stopping);
  }
  progress.clear();
  say_where_files_are();
  return stopping ? JobEnd::kInterrupted : JobEnd::kFinished;
}

std::vector<Batch> TrainJob::next_microbatches() {
  const int64_t num_microbatches = gradient_accumulation_steps(config_.training);
  std::vector<Batch> microbatches;
  for (int64_t i = 0; i < num_microbatches; ++i) {
    microbatches.push_back(loader_->next(config_.training.local_batch_size).to(device_));
  }
  return microbatches;
}

StepRecord TrainJob::run_step(int64_t step) {
  const Clock::time_point start = Clock::now();
  Timing timing;
  const std::vector<Batch> microbatches = next_microbatches();
  timing.data_s = seconds_since(start);
  const double lr = config_.optimizer.lr * lr_factor(lr_schedule_options(config_), step - 1);
  StepResult result;
  try {
    result = step_->run(microbatches, lr);
  } catch (const NonFiniteError& error) {
    throw NonFiniteError("step " + std::to_string(step) + ": " + error.what() +
                         "; the parameters are those of step " + std::to_string(step - 1));
  }
  timing.step_s = seconds_since(start);
  return make_record(step, result, lr, timing);
}

StepRecord TrainJob::make_record(int64_t step, const StepResult& result, double lr,
                                 const Timing& timing) const {
  const int64_t num_tokens = global_batch_size(config_.training) * config_.training.seq_len;
  const double tps = static_cast<double>(num_tokens) / timing.step_s;
  const double flops =
      static_cast<double>(model_->num_flops_per_token(config_.training.seq_len)) * tps;
  return {.step = step,
          .loss = result.loss,
          .max_loss = result.loss,
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
  metrics_->append(record);
  checkpoints_->add_tokens(record.num_tokens);
  if (record.step == first_step_ || record.step % config_.metrics.log_freq == 0) {
    log_.info(
        console_line(record, {.color = true, .memory_total_gib = memory_use(device_).total_gib}));
  }
}

void TrainJob::write_curve() {
  try {
    write_loss_svg(config_.job.dump_folder + "/loss.svg", read_metrics(metrics_->path()),
                   {.title = model_->description() + " on " + config_.training.dataset});
  } catch (const std::exception& error) {
    log_.warning(std::string("no loss.svg: ") + error.what());
  }
}

void TrainJob::say_where_files_are() const {
  const std::string& folder = config_.job.dump_folder;
  const SourceStats& data = loader_->stats();
  if (data.num_invalid_utf8_documents > 0) {
    log_.warning(std::to_string(data.num_invalid_utf8_documents) +
                 " documents held invalid UTF-8, replaced by U+FFFD");
  }
  if (data.num_empty_documents > 0)
    log_.info(std::to_string(data.num_empty_documents) + " empty documents skipped");
  log_.info("metrics     " + metrics_->path());
  log_.info("loss curve  " + folder + "/loss.svg");
  log_.info("config      " + resolved_config_path(config_.job));
  log_.info("log         " + folder + "/train.log");
  if (config_.checkpoint.enable) log_.info("checkpoints " + checkpoints_->folder());
}

}  // namespace tessera
