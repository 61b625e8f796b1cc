// The passes of a step over a pipeline (parallel/pipeline/pipeline_runtime.h).
//
// Each batch is cut into the plan's microbatches by rows (microbatches.h). Masks are built for each
// microbatch on every rank, from rows that all ranks of the pipeline read alike, so that no mask
// travels. The loss is made on the last stage and told to all.
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
  // models: this rank's, with `parameters` over their blocks (reduce_at_end, or it throws
  // c10::Error). group: the ranks of the pipeline. What is passed in must outlive the object.
  PipelinePasses(StageModels& models, const pipeline::ExecutionPlan& plan,
                 ParameterStore& parameters, MaskBuilder masked, const ProcessGroup& group);

  double run(const std::vector<Batch>& batches, double loss_gradient) override;
  void replay(const std::vector<Batch>& batches) override;
  std::vector<Block*> blocks() override { return models_.blocks(); }

  // One pass of microbatches with masks of the caller's, e.g. those of a whole batch, split
  // (AttentionMasks::split), and shared where ranks share rows. is_last: no other pass adds to
  // these gradients.
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

// The passes of make_stage_models' models: over a pipeline or, without a plan, one whole model.
std::unique_ptr<StepPasses> make_passes(const std::optional<pipeline::PipelinePlan>& plan,
                                        StageModels& models, ParameterStore& parameters,
                                        const MaskBuilder& masked, const ProcessGroup& group);

}  // namespace tessera
