// When a job saves and what it starts from: [checkpoint] on top of trainer/checkpoint/checkpoint.h.
//
// Order of loading, as in TorchTitan: a step of the job's own folder (load_step, else the latest),
// else initial_load_path (weights only: one of our step folders, or a Hugging Face folder with
// initial_load_in_hf), else the fresh initial weights.
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

// This rank's weights and optimizer state, by name: NAME, exp_avg/NAME, exp_avg_sq/NAME, step.
CheckpointTensors checkpoint_tensors(const ParameterStore& parameters, const AdamW& optimizer,
                                     const DeviceMesh& mesh);

class JobCheckpoints {
 public:
  // All references must outlive the object. mesh: the ranks that the parameters are sharded over;
  // load() and save_if_due() are collective over it, and what one rank cannot do fails on all.
  JobCheckpoints(const JobConfig& config, Model& model, ParameterStore& parameters,
                 AdamW& optimizer, DataLoader& loader, const Logger& log,
                 const DeviceMesh& mesh = {});

  // Loads what the job starts from, which rank 0 chooses, and returns the last step done, 0 for a
  // new run.
  int64_t load();

  // Saves after `step` if one is due: every `interval` steps, the first step with
  // enable_first_step_checkpoint, and the last step (weights only with last_save_model_only).
  // `stopping`: the run ends early, so save all of it.
  void save_if_due(int64_t step, bool stopping);

  // Tokens trained on, all ranks; kept in the checkpoint.
  void add_tokens(int64_t num_tokens) { num_tokens_ += num_tokens; }

  const std::string& folder() const { return folder_; }

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
