// Checkpoints: one folder per saved step.
//
//   <folder>/step-20/model.safetensors       parameters under our names (models/llama3/llama3.h),
//   or
//                                            cast to export_dtype
//   <folder>/step-20/optimizer.safetensors   exp_avg/NAME, exp_avg_sq/NAME, step; not in model-only
//                                            checkpoints
//   <folder>/step-20/train_state.json        step, tokens seen, data loader, format version, model,
//                                            and size and CRC-32C of the files above and of itself
//
// A folder is written under another name (step-20.tmp), each file flushed to disk, the JSON last,
// and renamed: whenever the machine stops there is the old folder, the new one, or none, never
// half of one. Loading verifies every byte and every name and shape before it overwrites anything.
//
//   CheckpointTensors tensors = {.model = store.named_masters(), .optimizer = ...};
//   save_checkpoint("outputs/checkpoint", tensors, state);
//   keep_latest("outputs/checkpoint", 10, state.step);
//   ...
//   if (std::optional<int64_t> step = latest_step("outputs/checkpoint")) {
//     state = load_checkpoint("outputs/checkpoint", *step, tensors);  // copied into the tensors
//   }
//
// All functions throw c10::Error with path and reason. One process at a time writes to a folder.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/dataloader.h"
#include "models/safetensors.h"

namespace tessera {

// What a run needs besides tensors to go on; the learning rate is a function of the step.
struct TrainState {
  int64_t step = 0;        // optimizer steps done
  int64_t num_tokens = 0;  // seen so far, all ranks
  DataLoaderState loader;
  bool operator==(const TrainState&) const = default;
};

// Tensors to write from or to load into. Handles: loading copies into their storage.
struct CheckpointTensors {
  NamedTensors model;
  NamedTensors optimizer;  // empty when loading: the optimizer's state is neither read nor required
};

struct SaveOptions {
  bool model_only = false;  // no optimizer state: to use the model, not to go on training it
  std::optional<at::ScalarType> export_dtype = {};  // of the model's file; with model_only alone
  std::string model_description = {};               // for people and error messages
};

// Writes <folder>/step-<state.step>, parents included, and replaces one that is there. On failure
// (disk full, ...) nothing is left behind, and a checkpoint of the same step stays as it was.
void save_checkpoint(const std::string& folder, const CheckpointTensors& tensors,
                     const TrainState& state, const SaveOptions& options = {});

// Steps with a complete checkpoint, ascending: its JSON is intact and its files have the sizes
// stated there. Leftovers (*.tmp) and other names are ignored; a missing folder has none.
std::vector<int64_t> checkpoint_steps(const std::string& folder);
std::optional<int64_t> latest_step(const std::string& folder);

// Copies <folder>/step-<step> into `tensors` and returns its state. With optimizer state asked for,
// dtypes must be those saved, so that the run goes on bit for bit; without, the model's are cast.
// Throws before anything is overwritten: no such step (lists those there are), a file that is
// missing, shortened or changed, tensors that are missing, left over, or of another shape or dtype,
// a model-only checkpoint when optimizer state is asked for.
TrainState load_checkpoint(const std::string& folder, int64_t step,
                           const CheckpointTensors& tensors);

// The same from the path of one checkpoint, e.g. "outputs/checkpoint/step-20".
TrainState load_checkpoint_folder(const std::string& path, const CheckpointTensors& tensors);

// Removes leftovers (step-*.tmp) and, unless k is 0, all complete checkpoints but the k newest.
// The one of `just_written` counts as newest, also when a run that went on from an earlier step
// left later ones.
void keep_latest(const std::string& folder, int64_t k, int64_t just_written);

}  // namespace tessera
