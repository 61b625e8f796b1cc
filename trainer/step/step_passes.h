// Forward and backward of a step's microbatches, as TrainingStep sees them: what differs between a
// model that is whole on this rank and one that is spread over the ranks of a pipeline.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "data/batch.h"
#include "models/model.h"
#include "trainer/step/mask_builder.h"
#include "trainer/step/parameter_store.h"

namespace tessera {

class StepPasses {
 public:
  virtual ~StepPasses() = default;
  StepPasses(const StepPasses&) = delete;
  StepPasses& operator=(const StepPasses&) = delete;

  // Adds loss_gradient * (gradient of the sum of all losses) to the parameters' gradients, and
  // returns that sum: cross entropy over the valid labels of these microbatches. Ranks of a
  // pipeline get the same number, ranks that share rows each the sum of their tokens.
  //
  // Throws c10::Error for extras that the model does not read, before any forward.
  virtual double run(const std::vector<Batch>& microbatches, double loss_gradient) = 0;

  // Shows the forward passes to whoever observes the blocks. Gradients may be spoiled.
  virtual void replay(const std::vector<Batch>& microbatches) = 0;

  virtual std::vector<Block*> blocks() = 0;  // of this rank

 protected:
  StepPasses() = default;
};

// Sum of the losses of a microbatch from what the trunk of a model with the head returned.
at::Tensor loss_sum(Model& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT);

// What the forward of a model (or stage) takes besides tokens and masks: extras where its encoder is.
ForwardInputs forward_inputs(const Model& model, const Batch& batch);

// Throws c10::Error for a batch with extras that no stage of the model reads.
void check_extras(const Model& model, const Batch& batch);

// One microbatch after the other. What is passed in must outlive the object.
class WholeModelPasses final : public StepPasses {
 public:
  WholeModelPasses(Model& model, ParameterStore& parameters, MaskBuilder masked);
  double run(const std::vector<Batch>& microbatches, double loss_gradient) override;
  void replay(const std::vector<Batch>& microbatches) override;
  std::vector<Block*> blocks() override { return model_.blocks(); }

 private:
  at::Tensor forward(const Batch& batch);

  Model& model_;
  ParameterStore& parameters_;
  MaskBuilder masked_;
};

}  // namespace tessera
