// Forward and backward of a step's microbatches, as TrainingStep sees them. A StepPasses is what
// differs between a model that is whole on this rank (WholeModelPasses) and one that is spread over
// the ranks of a pipeline (PipelinePasses in pipeline_passes.h).
//
// Shape legend: B rows, T tokens of this rank, D model dim.
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
  // returns that sum: the cross entropy over the valid labels of these microbatches. Ranks of a
  // pipeline all get the same number; each of the ranks that share rows gets the sum over its own
  // tokens. parameters.finish_gradients() is left to the caller.
  //
  // Throws c10::Error for extras that the model does not read, before any forward.
  virtual double run(const std::vector<Batch>& microbatches, double loss_gradient) = 0;

  // Runs the forward passes again for whoever observes the blocks (Block::callbacks.observe).
  // Gradients are undefined afterwards.
  virtual void replay(const std::vector<Batch>& microbatches) = 0;

  virtual std::vector<Block*> blocks() = 0;  // of this rank

 protected:
  StepPasses() = default;
};

// The sum of the losses of a microbatch, a scalar (loss.h). model: one with the head, whose
// trunk returned hidden_BTD. labels_BT: int64, of the same tokens.
at::Tensor loss_sum(Model& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT);

// What the forward of a model (or stage) takes besides tokens and masks: positions, and the
// batch's extras where the model itself reads them.
ForwardInputs forward_inputs(const Model& model, const Batch& batch);

// Throws c10::Error for extras that do not fit the batch's tokens (Extras::check), and for a batch
// with extras that no stage of the model reads.
void check_extras(const Model& model, const Batch& batch);

// The passes of a model that is whole on this rank: forward and backward of one microbatch after
// the other. model and parameters, which are the model's, must outlive the object.
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
