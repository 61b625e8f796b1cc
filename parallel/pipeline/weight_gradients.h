// WeightGradients, for the split backward: the gradients of a stage's weights, put off until the
// schedule asks for them.
//
//   WeightGradients deferred;                                  // one per stage
//   y = deferred.linear(x, weight);                            // in the stage's forward
//   {
//     const auto deferring = deferred.defer(microbatch);
//     backward(y, dy);                                         // I: the gradient of x alone
//   }
//   deferred.add(microbatch);                                  // W: weight.grad() += dy^T x
//
// Whether a gradient is put off is decided when backward runs, so one forward serves both kinds of
// schedules, and a forward that activation checkpointing runs again in backward is treated alike.
// Only the large matrix products are worth it; gradients of norms, embeddings and the head come
// with I.
//
// An object is used by one rank's thread (and the autograd thread that works for it).
//
// Shape legend: B rows, T tokens, D features in, N features out.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace tessera::pipeline {

class WeightGradients {
 public:
  WeightGradients() = default;
  WeightGradients(const WeightGradients&) = delete;
  WeightGradients& operator=(const WeightGradients&) = delete;

  // While a Deferring lives, backwards of linear() put their weights' gradients off.
  class Deferring {
   public:
    ~Deferring() { owner_.microbatch_.reset(); }
    Deferring(const Deferring&) = delete;
    Deferring& operator=(const Deferring&) = delete;

   private:
    friend class WeightGradients;
    explicit Deferring(WeightGradients& owner) : owner_(owner) {}
    WeightGradients& owner_;
  };

  // Starts putting gradients off under this microbatch; one Deferring at a time.
  [[nodiscard]] Deferring defer(int64_t microbatch);

  // x W^T, [B, T, N]. weight_ND is a leaf; its gradient is added to weight.grad(), in the dtype of
  // that. The object must outlive the backward pass.
  at::Tensor linear(const at::Tensor& x_BTD, const at::Tensor& weight_ND);

  // Adds the gradients that were put off for this microbatch, if any. It needs neither
  // the weights' values nor the graph, only the tensors that are kept here: each product's input
  // and the gradient of its output.
  void add(int64_t microbatch);

  int64_t num_deferred() const;       // products, of all microbatches
  void drop() { deferred_.clear(); }  // after a failure

 private:
  struct Product {
    at::Tensor x;
    at::Tensor weight;
    at::Tensor dy;
  };
  static void add(const Product& product);
  void take(Product product);

  std::optional<int64_t> microbatch_;  // that backward runs for, while it defers
  std::map<int64_t, std::vector<Product>> deferred_;
};

}  // namespace tessera::pipeline
