// One optimizer step: masks, forward, loss, backward over the microbatches, clip, AdamW. No files,
// no clock, no logging.
//
//   loss = sum over valid labels of all microbatches / number of valid labels of all microbatches
//
// so that gradient accumulation with uneven numbers of valid labels equals one large batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention/block_mask.h"
#include "data/batch.h"
#include "data/tokenizer.h"
#include "models/model.h"
#include "trainer/optimizer.h"
#include "trainer/parameter_store.h"

namespace tessera {

struct TrainingStepOptions {
  double max_norm = 1.0;  // of all gradients together; gradients above it are scaled down
  AdamWOptions adamw;
};

struct StepResult {
  double loss = 0.0;
  double grad_norm = 0.0;  // before clipping
  int64_t num_valid_labels = 0;
};

// The loss or a gradient became infinite or NaN. The message names the step's first layer (or
// parameter) that shows it.
class NonFiniteError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class TrainingStep {
 public:
  // Everything passed in must outlive the object. create_mask_fn: how get_attention_masks builds
  // its masks.
  TrainingStep(Model& model, ParameterStore& parameters, const Tokenizer& tokenizer,
               CreateMaskFn create_mask_fn, const TrainingStepOptions& options);

  // Runs one step and updates the parameters. Throws c10::Error when no label of the step is valid,
  // and NonFiniteError, with the parameters untouched, when the loss or the gradient norm is not
  // finite.
  StepResult run(const std::vector<Batch>& microbatches, double lr);

  // Forward and backward only: gradients are left in the store, unclipped.
  StepResult accumulate_gradients(const std::vector<Batch>& microbatches);

  AdamW& optimizer() { return optimizer_; }

 private:
  at::Tensor loss_sum(const Batch& batch);
  void clip_gradients(double grad_norm);
  std::string first_non_finite_block(const std::vector<Batch>& microbatches);

  Model& model_;
  ParameterStore& parameters_;
  const Tokenizer& tokenizer_;
  CreateMaskFn create_mask_fn_;
  TrainingStepOptions options_;
  AdamW optimizer_;
};

// 2-norm of all gradients, summed in float64.
double gradient_norm(const NamedTensors& gradients);

}  // namespace tessera
