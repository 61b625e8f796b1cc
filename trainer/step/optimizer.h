// AdamW on flat buffers, by LibTorch's fused operator.
//
// Decoupled weight decay acts on every parameter, norms and embeddings included (TorchTitan's
// default).
#pragma once

#include <ATen/core/Tensor.h>

namespace tessera {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
};

class AdamW {
 public:
  // parameters and gradients: flat buffers of one size and dtype, kept by handle.
  AdamW(const at::Tensor& parameters, const at::Tensor& gradients, const AdamWOptions& options);

  // One update with learning rate `lr`, from the gradients as they stand.
  void step(double lr);

  // State, laid out like the parameters; what a checkpoint saves.
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
