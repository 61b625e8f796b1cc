// One optimizer step: masks, forward, loss, backward over the microbatches, clip, AdamW. It touches
// no files, no clock and no log.
//
//   loss = sum over valid labels of all microbatches / number of valid labels of all microbatches
//
// The two sums run over all ranks, so that gradient accumulation and data parallelism with uneven
// numbers of valid labels equal one large batch. Every rank gets the same result.
//
//   TrainingStep step(model, parameters, tokenizer, create_block_mask, {.max_norm = 1.0}, mesh);
//   const StepResult result = step.run(microbatches, lr);
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/batch.h"
#include "parallel/comm/device_mesh.h"
#include "trainer/step/optimizer.h"
#include "trainer/step/rank_model.h"

namespace tessera {

struct TrainingStepOptions {
  double max_norm = 1.0;  // 2-norm of all gradients together; above it they are scaled down to it
  AdamWOptions adamw;
};

struct StepResult {
  double loss = 0.0;             // mean over the valid labels of all ranks
  double max_loss = 0.0;         // the largest mean over the rows that one rank reads
  double grad_norm = 0.0;        // 2-norm of all gradients, before clipping
  int64_t num_valid_labels = 0;  // of all ranks, each shared row counted once
};

// The loss or a gradient became infinite or NaN. The message names the step's first layer (or
// parameter) that shows it.
class NonFiniteError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class TrainingStep {
 public:
  // model: materialised; it must outlive the object. Its mesh holds the ranks that train it.
  TrainingStep(RankModel& model, const TrainingStepOptions& options);

  // Runs one step on this rank's microbatches, as many on every rank, and updates the parameters
  // with learning rate `lr`. Collective over the mesh. Throws c10::Error when no label of the step
  // is valid on any rank, CommError when a rank is lost, and NonFiniteError, with the parameters
  // untouched, when the loss or the gradient norm is not finite.
  StepResult run(const std::vector<Batch>& microbatches, double lr);

  // The part of run() before clipping: leaves the step's gradients in the parameter store. Never
  // throws NonFiniteError.
  StepResult accumulate_gradients(const std::vector<Batch>& microbatches);

  AdamW& optimizer() { return optimizer_; }  // for checkpoints

 private:
  int64_t count_valid_labels(const std::vector<Batch>& microbatches) const;
  void reduce_losses(double own_sum, int64_t own_labels, StepResult& result) const;
  void clip_gradients(double grad_norm);
  std::string first_non_finite_block(const std::vector<Batch>& microbatches);

  StepPasses& passes_;
  ParameterStore& parameters_;
  TrainingStepOptions options_;
  DeviceMesh mesh_;
  AdamW optimizer_;
};

// The 2-norm of all gradients, summed in float64 over the ranks of `model_group`, which together
// hold every parameter. A part that several ranks hold counts once (NamedShard::is_counted).
double gradient_norm(const std::vector<NamedShard>& gradients, const ProcessGroup& model_group);

}  // namespace tessera
