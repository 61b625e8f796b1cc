#include "trainer/job_checkpoints.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>

#include "models/llama3/hf.h"
#include "trainer/checkpoint.h"
#include "trainer/job_parts.h"

namespace tessera {
namespace {

NamedTensors optimizer_tensors(const ParameterStore& parameters, const AdamW& optimizer) {
  NamedTensors tensors;
  for (const auto& [name, view] : parameters.named_views(optimizer.exp_avg())) {
    tensors.emplace_back("exp_avg/" + name, view);
  }
  for (const auto& [name, view] : parameters.named_views(optimizer.exp_avg_sq())) {
    tensors.emplace_back("exp_avg_sq/" + name, view);
  }
  tensors.emplace_back("step", optimizer.num_steps());
  return tensors;
}

// Weights fit by shape although the two models compute differently: refuse that before it becomes a
// strange loss curve.
void check_same_arithmetic(const Llama3Config& ours, const Llama3Config& theirs,
                           const std::string& folder) {
  TORCH_CHECK(ours.rope_theta == theirs.rope_theta, folder, "/config.json: rope_theta is ",
              theirs.rope_theta, "; expected ", ours.rope_theta, ", as flavor ", ours.flavor,
              " has it");
  TORCH_CHECK(ours.norm_eps == theirs.norm_eps, folder, "/config.json: rms_norm_eps is ",
              theirs.norm_eps, "; expected ", ours.norm_eps, ", as flavor ", ours.flavor,
              " has it");
  TORCH_CHECK(ours.rope_scaling == theirs.rope_scaling, folder,
              "/config.json: the RoPE scaling differs from that of flavor ", ours.flavor);
}

}  // namespace

JobCheckpoints::JobCheckpoints(const JobConfig& config, Model& model, ParameterStore& parameters,
                               AdamW& optimizer, DataLoader& loader, const Logger& log)
    : config_(config.checkpoint),
      num_steps_(config.training.steps),
      folder_((std::filesystem::path(config.job.dump_folder) / config.checkpoint.folder).string()),
      model_(model),
      parameters_(parameters),
      optimizer_(optimizer),
      loader_(loader),
      log_(log) {}

int64_t JobCheckpoints::load() {
  if (!config_.enable) return 0;
  const std::vector<int64_t> steps = checkpoint_steps(folder_);
  if (!steps.empty()) {
    return load_own(config_.load_step == -1 ? steps.back() : config_.load_step);
  }
  TORCH_CHECK(config_.load_step == -1, "checkpoint.load_step is ", config_.load_step, ", but ",
              folder_, " holds no checkpoint; expected -1 or a step that was saved there");
  if (config_.initial_load_path) load_initial(*config_.initial_load_path);
  return 0;
}

int64_t JobCheckpoints::load_own(int64_t step) {
  const TrainState state =
      load_checkpoint(folder_, step,
                      {.model = parameters_.named_masters(),
                       .optimizer = optimizer_tensors(parameters_, optimizer_)});
  parameters_.refresh();
  loader_.load_state(state.loader);
  num_tokens_ = state.num_tokens;
  log_.info("continuing after step " + std::to_string(state.step) + " of " + folder_);
  return state.step;
}

void JobCheckpoints::load_initial(const std::string& path) {
  if (config_.initial_load_in_hf) {
    auto* llama = dynamic_cast<Llama3*>(&model_);
    TORCH_CHECK(llama != nullptr, "checkpoint.initial_load_in_hf: model ", model_.description(),
                " has no import from Hugging Face folders; expected llama3");
    check_same_arithmetic(llama->config(), read_hf_llama3_config(path), path);
    load_hf_llama3(llama->config(), parameters_.named_masters(), path);
  } else {
    load_checkpoint_folder(path, {.model = parameters_.named_masters(), .optimizer = {}});
  }
  parameters_.refresh();
  log_.info("initial weights from " + path);
}

void JobCheckpoints::save_if_due(int64_t step, bool stopping) {
  if (!config_.enable || config_.load_only) return;
  const bool is_last = step == num_steps_;
  const bool is_first_wanted = step == 1 && config_.enable_first_step_checkpoint;
  if (is_last || is_first_wanted || stopping || step % config_.interval == 0) {
    save(step, is_last && config_.last_save_model_only);
  }
}

void JobCheckpoints::save(int64_t step, bool model_only) {
  CheckpointTensors tensors{.model = parameters_.named_masters(), .optimizer = {}};
  SaveOptions options{.model_only = model_only, .model_description = model_.description()};
  if (model_only) {
    options.export_dtype = scalar_type(config_.export_dtype);
  } else {
    tensors.optimizer = optimizer_tensors(parameters_, optimizer_);
  }
  save_checkpoint(folder_, tensors,
                  {.step = step, .num_tokens = num_tokens_, .loader = loader_.state()}, options);
  keep_latest(folder_, config_.keep_latest_k, step);
  log_.info("saved step " + std::to_string(step) + (model_only ? " (weights only)" : "") + " to " +
            folder_);
}

}  // namespace tessera
