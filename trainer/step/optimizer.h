// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization") on flat buffers, by
// LibTorch's fused operator.
//
// Weight decay acts on every parameter, norms and embeddings included, as in TorchTitan by default.
//
//   AdamW optimizer(parameters.masters(), parameters.gradients(), {.weight_decay = 0.1});
//   optimizer.step(lr);   // after the gradients of a step are complete
//   parameters.refresh();
#pragma once

#include <ATen/core/Tensor.h>

namespace tessera {

// The defaults are those of [optimizer] (configs/job_config.h).
struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
};

class AdamW {
 public:
  // Keeps handles of both buffers, which the caller goes on writing gradients to and reading
  // parameters from. State starts at zero. Throws c10::Error naming shapes and dtypes when the two
  // differ in either.
  AdamW(const at::Tensor& parameters, const at::Tensor& gradients, const AdamWOptions& options);

  // Updates the parameters once with learning rate `lr`, from the gradients as they stand, which
  // stay unchanged.
  void step(double lr);

  // The state that a checkpoint saves and loads in place: running means of the gradients and of
  // their squares, laid out like the parameters and of their dtype, and the updates done so far.
  const at::Tensor& exp_avg() const { return exp_avg_; }
  const at::Tensor& exp_avg_sq() const { return exp_avg_sq_; }
  const at::Tensor& num_steps() const { return num_steps_; }  // float32 scalar

 private:
  AdamWOptions options_;
  at::Tensor parameters_;
  at::Tensor gradients_;
  at::Tensor exp_avg_;
  at::Tensor exp_avg_sq_;
  at::Tensor num_steps_;
};

}  // namespace tessera
