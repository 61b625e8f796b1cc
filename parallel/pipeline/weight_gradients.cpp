#include "parallel/pipeline/weight_gradients.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera::pipeline {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// A backward finds the object through this capsule: autograd saves values and capsules, not
// pointers.
struct Owner : torch::CustomClassHolder {
  explicit Owner(WeightGradients& weight_gradients) : object(weight_gradients) {}
  WeightGradients& object;
};

constexpr const char* kOwner = "owner";

Tensor as_matrix(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

}  // namespace

struct DeferredLinear : torch::autograd::Function<DeferredLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const c10::intrusive_ptr<Owner>& owner) {
    context->save_for_backward({x, weight});
    context->saved_data[kOwner] = at::IValue::make_capsule(owner);
    return at::linear(x, weight);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &dy = grads[0];
    const auto owner =
        c10::static_intrusive_pointer_cast<Owner>(context->saved_data[kOwner].toCapsule());
    // x is detached: as saved it would keep its whole graph alive until W.
    if (context->needs_input_grad(1)) owner->object.take({x.detach(), weight, dy});
    const Tensor dx = context->needs_input_grad(0) ? at::matmul(dy, weight) : Tensor();
    return {dx, Tensor(), Tensor()};
  }
};

WeightGradients::Deferring WeightGradients::defer(int64_t microbatch) {
  TORCH_INTERNAL_ASSERT(!microbatch_, "deferring for microbatch ", *microbatch_, " already");
  microbatch_ = microbatch;
  return Deferring(*this);
}

Tensor WeightGradients::linear(const Tensor& x_BTD, const Tensor& weight_ND) {
  return DeferredLinear::apply(x_BTD, weight_ND, c10::make_intrusive<Owner>(*this));
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
