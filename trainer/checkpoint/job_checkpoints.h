// When a job saves and what it starts from: the keys of [checkpoint] on top of
// trainer/checkpoint/checkpoint.h.
//
// A job starts, as in TorchTitan, from the first of these that there is:
//   1. a step of the job's own folder (load_step, else the latest);
//   2. initial_load_path, weights only: one of our step folders, or a Hugging Face folder with
//      initial_load_in_hf;
//   3. the fresh initial weights.
//
//   JobCheckpoints checkpoints(config, model, parameters, optimizer, loader, log, mesh);
//   for (int64_t step = checkpoints.load() + 1; step <= num_steps; ++step) {
//     ...
//     checkpoints.add_tokens(num_tokens);
//     checkpoints.save_if_due(step, stopping);
//   }
#pragma once

#include <cstdint>
#include <string>

#include "configs/job_config.h"
#include "data/loader/dataloader.h"
#include "models/model.h"
#include "parallel/comm/device_mesh.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/step/parameter_store.h"
#include "trainer/step/training_step.h"
#include "trainer/support/logging.h"

namespace tessera {

// Views of this rank's weights and optimizer state by the names they have in a checkpoint: NAME,
// exp_avg/NAME, exp_avg_sq/NAME, step.
CheckpointTensors checkpoint_tensors(const ParameterStore& parameters, const AdamW& optimizer,
                                     const DeviceMesh& mesh);

class JobCheckpoints {
 public:
  // All references must outlive the object. mesh: the ranks that the parameters are sharded over;
  // load() and save_if_due() are collective over it, and what one rank cannot do throws c10::Error
  // on all of them. model: the whole model, read for its description and configuration only.
  JobCheckpoints(const JobConfig& config, Model& model, ParameterStore& parameters,
                 AdamW& optimizer, DataLoader& loader, const Logger& log,
                 const DeviceMesh& mesh = {});

  // Loads what the job starts from, which rank 0 chooses, into parameters, optimizer and loader.
  // Returns the last step done: 0 for a new run, and when checkpoint.enable is off. Throws
  // c10::Error naming the key for a load_step without a checkpoint, and for a Hugging Face folder
  // whose model computes differently; else what load_checkpoint throws.
  int64_t load();

  // Saves after `step` if a checkpoint is due: every `interval` steps, the first step with
  // enable_first_step_checkpoint, and the last step (weights only with last_save_model_only). With
  // `stopping` the run ends early, so one is due in any case. Keeps the newest keep_latest_k. Saves
  // nothing without checkpoint.enable or with load_only.
  void save_if_due(int64_t step, bool stopping);

  // Counts tokens that all ranks have trained on since the last call; the sum is kept in
  // checkpoints.
  void add_tokens(int64_t num_tokens) { num_tokens_ += num_tokens; }

  const std::string& folder() const { return folder_; }  // of all steps, below job.dump_folder

 private:
  CheckpointTensors tensors() const { return checkpoint_tensors(parameters_, optimizer_, mesh_); }
  int64_t choose_step() const;
  int64_t load_own(int64_t step);
  void load_initial(const std::string& path);
  void load_initial_hf(const std::string& path);
  void save(int64_t step, bool model_only);

  const Checkpoint& config_;
  int64_t num_steps_;
  std::string folder_;
  Model& model_;
  ParameterStore& parameters_;
  AdamW& optimizer_;
  DataLoader& loader_;
  Logger log_;
  DeviceMesh mesh_;
  int64_t num_tokens_ = 0;
};

}  // namespace tessera
