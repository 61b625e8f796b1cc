#include "parallel/pipeline/weight_gradients.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include "attention/op/autograd.h"

namespace tessera::pipeline {

using at::Tensor;

namespace {

Tensor as_matrix(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

}  // namespace

WeightGradients::Deferring WeightGradients::defer(int64_t microbatch) {
  TORCH_INTERNAL_ASSERT(!microbatch_, "deferring for microbatch ", *microbatch_, " already");
  microbatch_ = microbatch;
  return Deferring(*this);
}

Tensor WeightGradients::linear(const Tensor& x_BTD, const Tensor& weight_ND) {
  const auto backward = [this](const BackwardCall& call) -> Tensors {
    const Tensor &x = call.saved[0], &weight = call.saved[1], &dy = call.gradients[0];
    // Detached: x as saved would keep its whole graph alive until W.
    if (call.wanted[1]) take({x.detach(), weight, dy});
    return {call.wanted[0] ? at::matmul(dy, weight) : Tensor(), Tensor()};
  };
  return record(
      {x_BTD, weight_ND},
      [&] {
        return Forwarded{.outputs = {at::linear(x_BTD, weight_ND)}, .saved = {x_BTD, weight_ND}};
      },
      backward)[0];
}

void WeightGradients::take(Product product) {
  if (microbatch_) {
    deferred_[*microbatch_].push_back(std::move(product));
  } else {
    add(product);
  }
}

void WeightGradients::add(int64_t microbatch) {
  const auto found = deferred_.find(microbatch);
  if (found == deferred_.end()) return;
  for (Product& product : found->second) add(std::exchange(product, {}));
  deferred_.erase(found);
}

void WeightGradients::add(const Product& product) {
  const at::NoGradGuard no_grad;
  const Tensor x = as_matrix(product.x), dy = as_matrix(product.dy);
  Tensor& gradient = product.weight.mutable_grad();
  if (!gradient.defined()) {
    gradient = at::mm(dy.t(), x);
  } else if (gradient.scalar_type() == x.scalar_type()) {
    gradient.addmm_(dy.t(), x);
  } else {
    gradient.add_(at::mm(dy.t(), x));
  }
}

int64_t WeightGradients::num_deferred() const {
  int64_t count = 0;
  for (const auto& [microbatch, products] : deferred_) {
    count += static_cast<int64_t>(products.size());
  }
  return count;
}

}  // namespace tessera::pipeline
