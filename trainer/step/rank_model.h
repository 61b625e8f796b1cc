// RankModel: what one rank trains, put together in the one order that works.
//
//   placement -> stages -> attention wrapped -> recompute -> parameters -> tied gradients -> passes
//
// The train job, `tessera estimate` (on a planned mesh), tests and benchmarks make one each, so
// that parity is proved of the assembly that users run.
//
//   RankModel model({.mesh = mesh, .pipeline = plan}, make);   // on the meta device, no bytes
//   model.materialise(tokenizer, create_block_mask);           // parameters, initial values
//   TrainingStep step(model, {.max_norm = 1.0});
//
// Without options it is the whole model on one rank.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/tokenizers/tokenizer.h"
#include "parallel/comm/device_mesh.h"
#include "parallel/context/context_parallel.h"
#include "parallel/pipeline/pipeline_plan.h"
#include "trainer/step/mask_builder.h"
#include "trainer/step/parameter_store.h"
#include "trainer/step/stage_models.h"
#include "trainer/step/step_passes.h"

namespace tessera {

struct RankModelOptions {
  DeviceMesh mesh = {};

  // The stages and the schedule over mesh.pp(); nothing: every rank has all stages.
  std::optional<pipeline::PipelinePlan> pipeline = {};

  bool sequence_parallel = true;  // where mesh.tp() has more than one rank

  // How ranks share rows; its group is mesh.cp().
  ContextParallel context = {};

  // Every how many layers activations are recomputed; 0 is none, 1 all.
  int64_t recompute_every_nth_layer = 0;

  // reduce_at_end and sum_whole_gradients_over_tensor follow from the fields above, whatever stands
  // here.
  ParameterStoreOptions parameters = {};

  uint64_t seed = 0;  // of the initial weights
};

class RankModel {
 public:
  // Builds this rank's models on the meta device. Allocates no storage and sends nothing, so the
  // mesh may be a planned one.
  RankModel(RankModelOptions options, MakeModel make);
  RankModel(const RankModel&) = delete;
  RankModel& operator=(const RankModel&) = delete;

  // Gives every parameter storage and its initial value, and makes the passes. `tokenizer` must
  // outlive the object. Collective over a pipeline; called once.
  void materialise(const Tokenizer& tokenizer, CreateMaskFn create_mask_fn);

  const DeviceMesh& mesh() const { return options_.mesh; }
  const ParameterStoreOptions& parameter_options() const { return options_.parameters; }

  // This rank's stages, at least one; the whole model without a pipeline. front() is the first.
  const StageModels& stages() const { return stages_; }
  StageModels& stages() { return stages_; }
  Model& front() const { return *stages_.models.front(); }
  std::vector<Block*> blocks() const { return stages_.blocks(); }

  // What materialise() makes. Asked before it, they throw c10::Error.
  ParameterStore& parameters() const;
  StepPasses& passes() const;
  const MaskBuilder& masks() const;
  const std::vector<ProcessGroup>& tied_groups() const { return tied_groups_; }

 private:
  RankModelOptions options_;
  MakeModel make_;
  StageModels stages_;
  std::optional<MaskBuilder> masks_;
  std::unique_ptr<ParameterStore> parameters_;
  std::vector<ProcessGroup> tied_groups_;
  std::unique_ptr<StepPasses> passes_;
};

}  // namespace tessera
