#include "trainer/checkpoint/job_checkpoints.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>

#include "models/llama3/hf.h"
#include "parallel/comm/together.h"
#include "trainer/support/device.h"

namespace tessera {
namespace {

constexpr int64_t kNoStep = -1;

// Weights can fit by shape although the two models compute differently. Throws before that becomes
// a strange loss curve.
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

CheckpointTensors checkpoint_tensors(const ParameterStore& parameters, const AdamW& optimizer,
                                     const DeviceMesh& mesh) {
  CheckpointTensors tensors{.model = parameters.named(parameters.masters()), .optimizer = {}};
  const auto add_state = [&](const std::string& prefix, const at::Tensor& flat) {
    for (NamedShard& part : parameters.named(flat)) {
      part.name.insert(0, prefix);
      tensors.optimizer.push_back(std::move(part));
    }
  };
  add_state("exp_avg/", optimizer.exp_avg());
  add_state("exp_avg_sq/", optimizer.exp_avg_sq());
  NamedShard num_steps = whole_shard("step", optimizer.num_steps());  // the same on every rank
  num_steps.is_counted = mesh.model().rank() == 0;
  tensors.optimizer.push_back(std::move(num_steps));
  return tensors;
}

JobCheckpoints::JobCheckpoints(const JobConfig& config, Model& model, ParameterStore& parameters,
                               AdamW& optimizer, DataLoader& loader, const Logger& log,
                               const DeviceMesh& mesh)
    : config_(config.checkpoint),
      num_steps_(config.training.steps),
      folder_((std::filesystem::path(config.job.dump_folder) / config.checkpoint.folder).string()),
      model_(model),
      parameters_(parameters),
      optimizer_(optimizer),
      loader_(loader),
      log_(log),
      mesh_(mesh) {}

// Rank 0 chooses for all, so that ranks that see another folder fail instead of starting anew.
int64_t JobCheckpoints::choose_step() const {
  const auto choose = [&](const std::vector<std::string>&) -> std::string {
    const std::vector<int64_t> steps = checkpoint_steps(folder_);
    TORCH_CHECK(!steps.empty() || config_.load_step == -1, "checkpoint.load_step is ",
                config_.load_step, ", but ", folder_,
                " holds no checkpoint; expected -1 or a step that was saved there");
    if (steps.empty()) return "";
    return std::to_string(config_.load_step == -1 ? steps.back() : config_.load_step);
  };
  const std::string step = run_together(
      mesh_.all(), [] { return ""; }, choose);
  return step.empty() ? kNoStep : std::stoll(step);
}

int64_t JobCheckpoints::load() {
  if (!config_.enable) return 0;
  const int64_t step = choose_step();
  if (step != kNoStep) return load_own(step);
  if (config_.initial_load_path) load_initial(*config_.initial_load_path);
  return 0;
}

int64_t JobCheckpoints::load_own(int64_t step) {
  const TrainState state = load_checkpoint(folder_, step, tensors(), mesh_);
  parameters_.refresh();
  loader_.load_state(state.loader);
  num_tokens_ = state.num_tokens;
  log_.info("continuing after step " + std::to_string(state.step) + " of " + folder_);
  return state.step;
}

void JobCheckpoints::load_initial(const std::string& path) {
  if (config_.initial_load_in_hf) {
    run_together(mesh_.all(), [&] {
      load_initial_hf(path);
      return "";
    });
  } else {
    load_checkpoint_folder(path, {.model = tensors().model, .optimizer = {}}, mesh_);
  }
  parameters_.refresh();
  log_.info("initial weights from " + path);
}

void JobCheckpoints::load_initial_hf(const std::string& path) {
  auto* llama = dynamic_cast<Llama3*>(&model_);
  TORCH_CHECK(llama != nullptr, "checkpoint.initial_load_in_hf: model ", model_.description(),
              " has no import from Hugging Face folders; expected llama3");
  check_same_arithmetic(llama->config(), read_hf_llama3_config(path), path);
  load_hf_llama3(llama->config(), tensors().model, path);
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
  SaveOptions options{.model_only = model_only, .model_description = model_.description()};
  if (model_only) options.export_dtype = scalar_type(config_.export_dtype);
  save_checkpoint(folder_, tensors(),
                  {.step = step, .num_tokens = num_tokens_, .loader = loader_.state()}, options,
                  mesh_);
  run_together(mesh_.all(), [&] {
    if (mesh_.world().rank() == 0) keep_latest(folder_, config_.keep_latest_k, step);
    return "";
  });
  log_.info("saved step " + std::to_string(step) + (model_only ? " (weights only)" : "") + " to " +
            folder_);
}

}  // namespace tessera
