// Checkpoints: one folder per saved step, written by all ranks and readable under any layout.
//
//   <folder>/step-20/model.safetensors       parameters under our names (models/llama3/llama3.h),
//                                            or cast to export_dtype
//   <folder>/step-20/optimizer.safetensors   exp_avg/NAME, exp_avg_sq/NAME, step; not in model-only
//                                            checkpoints
//   <folder>/step-20/train_state.json        step, tokens seen, data loader, format version, model,
//                                            and size and CRC-32C of the files above and of itself
//
// When several ranks hold the parameters, each writes what it holds to files of its own
// (model-00001-of-00004.safetensors, ...), and train_state.json lists every tensor's parts. The
// files' metadata say where their parts stand in the way PyTorch's files do (DCP_SHARDING_INFO), so
// that torch.distributed.checkpoint's HuggingFaceStorageReader reads them. Any number of ranks
// loads what any other number has written: each copies what its parts have in common with the
// saved ones. Layouts need not agree, and a rank need not have every name (pipeline stages): the
// union over the ranks is the model.
//
// A folder is written under another name (step-20.tmp), each file flushed to disk, the JSON last,
// and renamed: whenever the machine stops there is the old folder, the new one, or none, never
// half of one. Loading verifies every byte and every name and shape before it overwrites anything;
// the files are divided over the ranks for it, so each is read once for its checksum.
//
//   CheckpointTensors tensors = {.model = store.named(store.masters()), .optimizer = ...};
//   save_checkpoint("outputs/checkpoint", tensors, state, {}, mesh);
//   if (mesh.world().rank() == 0) keep_latest("outputs/checkpoint", 10, state.step);
//   ...
//   if (std::optional<int64_t> step = latest_step("outputs/checkpoint")) {
//     state = load_checkpoint("outputs/checkpoint", *step, tensors, mesh);  // into the tensors
//   }
//
// All functions throw c10::Error with path and reason. Saving and loading are collective over the
// mesh, whose ranks see the same folder; when one rank fails, all throw its reason (run_together).
// One run at a time writes to a folder.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/dataloader.h"
#include "parallel/comm/device_mesh.h"
#include "parallel/fsdp/sharded_parameters.h"

namespace tessera {

// What a run needs besides tensors to go on. The learning rate is a function of the step and is not
// saved.
struct TrainState {
  int64_t step = 0;        // optimizer steps done
  int64_t num_tokens = 0;  // trained on so far, by all ranks together
  DataLoaderState loader;  // where the next step's rows begin
  bool operator==(const TrainState&) const = default;
};

// This rank's parts, to write from or to load into. The tensors are handles: loading copies into
// their storage, on whatever device it is. Where several ranks hold a part, the rank whose part
// says is_counted writes it. whole_shard() (parallel/fsdp/sharded_parameters.h) makes a part of a
// whole tensor.
struct CheckpointTensors {
  std::vector<NamedShard> model;
  std::vector<NamedShard> optimizer;  // empty when loading: its state is neither read nor required
};

struct SaveOptions {
  // Leaves out the optimizer's state: the checkpoint serves to use the model, not to go on
  // training.
  bool model_only = false;

  // The floating-point dtype of the model's file; by default that of the tensors. Only with
  // model_only, because a run cannot go on from rounded weights.
  std::optional<at::ScalarType> export_dtype = {};

  std::string model_description = {};  // kept in train_state.json, for people
};

// Writes <folder>/step-<state.step>, parents included, and replaces a checkpoint of that step.
// Replicas write nothing; state and options.model_description are those of rank 0. On failure (disk
// full, parts of a tensor that overlap or are missing, a negative step, export_dtype without
// model_only, ...) nothing is left behind, and a checkpoint of the same step stays as it is.
void save_checkpoint(const std::string& folder, const CheckpointTensors& tensors,
                     const TrainState& state, const SaveOptions& options = {},
                     const DeviceMesh& mesh = {});

// Steps with a complete checkpoint, ascending: its JSON is intact and its files have the sizes
// stated there. Leftovers (*.tmp) and other names are ignored; a missing folder has none.
// latest_step is the last of them.
std::vector<int64_t> checkpoint_steps(const std::string& folder);
std::optional<int64_t> latest_step(const std::string& folder);

// Copies <folder>/step-<step> into `tensors` and returns its state. With optimizer state asked for,
// dtypes must be those saved, so that the run goes on bit for bit; without it the model's values
// are cast to the dtypes of `tensors`. Throws before anything is overwritten on any rank, for
//  - a step that is not there (the message lists the steps that are);
//  - a file that is missing, shortened or changed;
//  - tensors that are missing, that no rank asks for, or that have another shape or dtype;
//  - a model-only checkpoint when optimizer state is asked for.
TrainState load_checkpoint(const std::string& folder, int64_t step,
                           const CheckpointTensors& tensors, const DeviceMesh& mesh = {});

// load_checkpoint from the path of one checkpoint, e.g. "outputs/checkpoint/step-20". The folder
// may have any name.
TrainState load_checkpoint_folder(const std::string& path, const CheckpointTensors& tensors,
                                  const DeviceMesh& mesh = {});

// Removes leftovers (step-*.tmp) and, unless k is 0, all complete checkpoints but the k newest. The
// checkpoint of `just_written` counts as the newest, also when a run that went on from an earlier
// step left later ones. Called by one rank, after save_checkpoint; throws for k < 0.
void keep_latest(const std::string& folder, int64_t k, int64_t just_written);

}  // namespace tessera
