#include "trainer/step/pipeline_passes.h"

#include <ATen/ops/full.h>
#include <c10/util/Exception.h>

#include "parallel/pipeline/microbatches.h"

namespace tessera {

PipelinePasses::PipelinePasses(StageModels& models, const pipeline::ExecutionPlan& plan,
                               ParameterStore& parameters, MaskBuilder masked,
                               const ProcessGroup& group)
    : models_(models),
      masked_(std::move(masked)),
      group_(group),
      runtime_(plan, group, runtime_stages(parameters)) {
  TORCH_CHECK(parameters.reduces_at_end(),
              "PipelinePasses: the parameters sum gradients after each backward, expected "
              "reduce_at_end: weight gradients come later");
}

std::vector<pipeline::RuntimeStage> PipelinePasses::runtime_stages(ParameterStore& parameters) {
  std::vector<pipeline::RuntimeStage> stages;
  for (size_t i = 0; i < models_.models.size(); ++i) {
    Model& stage_model = *models_.models[i];
    const int64_t stage = models_.stages[i];
    stages.push_back(
        {.forward =
             [this, &stage_model, stage](const at::Tensor& input, int64_t microbatch) {
               const bool is_last = stage + 1 == runtime_.placement().num_stages();
               return forward(stage_model, is_last, input,
                              current_[static_cast<size_t>(microbatch)]);
             },
         .weight_gradients = &models_.weight_gradients[i],
         .reduce_gradients =
             [&parameters, &stage_model] { parameters.reduce_gradients(stage_model.blocks()); }});
  }
  return stages;
}

at::Tensor PipelinePasses::forward(Model& stage_model, bool is_last_stage, const at::Tensor& input,
                                   const MaskedBatch& microbatch) const {
  const Batch& batch = microbatch.batch;
  const at::Tensor hidden_BTD =
      stage_model.trunk(input, microbatch.masks, forward_inputs(stage_model, batch));
  return is_last_stage ? loss_sum(stage_model, hidden_BTD, batch.labels_BT) : hidden_BTD;
}

std::vector<MaskedBatch> PipelinePasses::microbatches_of(const Batch& batch) const {
  std::vector<MaskedBatch> microbatches;
  int64_t begin = 0;
  for (const int64_t rows :
       pipeline::microbatch_sizes(batch.batch_size(), runtime_.num_microbatches())) {
    microbatches.push_back(masked_.build(*models_.models.front(), batch.rows(begin, begin + rows)));
    begin += rows;
  }
  return microbatches;
}

double PipelinePasses::run_microbatches(const std::vector<MaskedBatch>& microbatches,
                                        double loss_gradient, bool is_last) {
  current_ = microbatches;
  const Model& any_stage = *models_.models.front();
  pipeline::PipelineInputs inputs{
      .activation_options = blocks().front()->slots.front().tensor->options().requires_grad(false),
      .loss_gradient = loss_gradient,
      .is_last = is_last};
  for (const MaskedBatch& microbatch : current_) {
    const Batch& batch = microbatch.batch;
    check_extras(any_stage, batch);
    inputs.first_inputs.push_back(batch.tokens_BT);
    inputs.activation_shapes.push_back(any_stage.hidden_shape(batch.batch_size(), batch.seq_len()));
  }
  double losses = 0;
  for (const at::Tensor& loss : runtime_.run(inputs)) losses += loss.item<double>();
  current_.clear();
  return losses;
}

double PipelinePasses::run(const std::vector<Batch>& batches, double loss_gradient) {
  for (const Batch& batch : batches) check_extras(*models_.models.front(), batch);
  double losses = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    losses += run_microbatches(microbatches_of(batches[i]), loss_gradient, i + 1 == batches.size());
  }
  const at::Device device = blocks().front()->slots.front().tensor->device();
  const at::Tensor told =
      at::full({1}, losses, at::TensorOptions().dtype(at::kDouble).device(device));
  group_.broadcast(told, runtime_.placement().rank_of_stage.back()).wait();
  return told.item<double>();
}

// The backward runs as well, on a loss gradient of 0: the plan has no pass of forwards alone.
void PipelinePasses::replay(const std::vector<Batch>& batches) { run(batches, 0.0); }

std::unique_ptr<StepPasses> make_passes(const std::optional<pipeline::PipelinePlan>& plan,
                                        StageModels& models, ParameterStore& parameters,
                                        const MaskBuilder& masked, const ProcessGroup& group) {
  if (!plan) return std::make_unique<WholeModelPasses>(*models.models.front(), parameters, masked);
  return std::make_unique<PipelinePasses>(models, plan->execution, parameters, masked, group);
}

}  // namespace tessera
