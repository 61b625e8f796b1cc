// The passes of a step over a pipeline (parallel/pipeline/pipeline_runtime.h).
//
// Each batch is cut into the plan's microbatches by rows (parallel/pipeline/microbatches.h). Masks
// are built for each microbatch on every rank, from rows that all ranks of the pipeline read alike,
// so that no mask travels. The last stage makes the loss; run() tells it to all ranks.
//
// rank_model.h puts the stages, parameters and passes of a rank together.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/pipeline/pipeline_plan.h"
#include "parallel/pipeline/pipeline_runtime.h"
#include "trainer/step/mask_builder.h"
#include "trainer/step/stage_models.h"
#include "trainer/step/step_passes.h"

namespace tessera {

class PipelinePasses final : public StepPasses {
 public:
  // models: this rank's stages. parameters: over their blocks, with reduce_at_end. group: the ranks
  // of the pipeline, in order. models and parameters must outlive the object. Throws c10::Error
  // without reduce_at_end, and when group or models do not fit the plan.
  PipelinePasses(StageModels& models, const pipeline::ExecutionPlan& plan,
                 ParameterStore& parameters, MaskBuilder masked, const ProcessGroup& group);

  // run and replay are collective over the pipeline. They throw what StepPasses::run documents,
  // c10::Error for a batch with fewer rows than microbatches, and CommError when a rank is lost.
  double run(const std::vector<Batch>& batches, double loss_gradient) override;
  void replay(const std::vector<Batch>& batches) override;
  std::vector<Block*> blocks() override { return models_.blocks(); }

  // Runs one pass of as many microbatches as the plan has, with the caller's masks: e.g. the masks
  // of a whole batch, split (AttentionMasks::split), and shared where ranks share rows. is_last: no
  // later pass adds to these gradients, so they are reduced. Returns the sum of the losses on the
  // rank with the last stage, 0 on the others.
  double run_microbatches(const std::vector<MaskedBatch>& microbatches, double loss_gradient,
                          bool is_last);

  pipeline::PipelineRuntime& runtime() { return runtime_; }

 private:
  std::vector<pipeline::RuntimeStage> runtime_stages(ParameterStore& parameters);
  at::Tensor forward(Model& stage_model, bool is_last_stage, const at::Tensor& input,
                     const MaskedBatch& microbatch) const;
  std::vector<MaskedBatch> microbatches_of(const Batch& batch) const;

  StageModels& models_;
  MaskBuilder masked_;
  ProcessGroup group_;
  pipeline::PipelineRuntime runtime_;
  std::vector<MaskedBatch> current_;  // of the pass that runs
};

// The passes over what make_stage_models made: PipelinePasses with a plan, WholeModelPasses
// without. group is not used without a plan.
std::unique_ptr<StepPasses> make_passes(const std::optional<pipeline::PipelinePlan>& plan,
                                        StageModels& models, ParameterStore& parameters,
                                        const MaskBuilder& masked, const ProcessGroup& group);

}  // namespace tessera
