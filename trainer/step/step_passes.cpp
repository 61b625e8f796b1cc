#include "trainer/step/step_passes.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full_like.h>
#include <c10/util/Exception.h>

#include "attention/op/autograd.h"
#include "trainer/step/loss.h"

namespace tessera {

at::Tensor loss_sum(Model& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT) {
  return model.with_head(
      hidden_BTD, [labels_BT](const at::Tensor& x_BTD, const at::Tensor& weight_VD,
                              const VocabularyPart& vocabulary) {
        return cross_entropy_sum(x_BTD, weight_VD, labels_BT, loss_chunk_tokens(weight_VD.size(0)),
                                 vocabulary);
      });
}

ForwardInputs forward_inputs(const Model& model, const Batch& batch) {
  ForwardInputs inputs{.positions_BT = batch.positions_BT};
  if (model.extras_reader() == ExtrasReader::kThisStage) inputs.extras = batch.extras;
  return inputs;
}

void check_extras(const Model& model, const Batch& batch) {
  batch.extras.check(batch.tokens_BT);
  TORCH_CHECK(batch.extras.empty() || model.extras_reader() != ExtrasReader::kNone,
              "Batch::extras: got patches_BPC ", batch.extras.patches_BPC.sizes(),
              ", expected no extras: no stage of ", model.description(), " reads them");
}

WholeModelPasses::WholeModelPasses(Model& model, ParameterStore& parameters, MaskBuilder masked)
    : model_(model), parameters_(parameters), masked_(std::move(masked)) {}

at::Tensor WholeModelPasses::forward(const Batch& batch) {
  const MaskedBatch mine = masked_.build(model_, batch);
  const at::Tensor hidden_BTD =
      model_.trunk(mine.batch.tokens_BT, mine.masks, forward_inputs(model_, mine.batch));
  return loss_sum(model_, hidden_BTD, mine.batch.labels_BT);
}

double WholeModelPasses::run(const std::vector<Batch>& microbatches, double loss_gradient) {
  for (const Batch& batch : microbatches) check_extras(model_, batch);
  double losses = 0;
  for (size_t i = 0; i < microbatches.size(); ++i) {
    if (i + 1 == microbatches.size()) parameters_.expect_last_backward();
    const at::Tensor loss = forward(microbatches[i]);
    run_backward({loss}, {at::full_like(loss, loss_gradient)});
    losses += loss.item<double>();
  }
  return losses;
}

void WholeModelPasses::replay(const std::vector<Batch>& microbatches) {
  const at::NoGradGuard no_grad;
  for (const Batch& batch : microbatches) forward(batch);
}

}  // namespace tessera
