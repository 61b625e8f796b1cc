#include "parallel/comm/collectives.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

namespace tessera {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Gathers the ranks' parts along a new leading dim: [size, *part].
Tensor gather_stacked(const Tensor& part, const ProcessGroup& group) {
  std::vector<int64_t> sizes = part.sizes().vec();
  sizes.insert(sizes.begin(), group.size());
  const Tensor parts = at::empty(sizes, part.options());
  group.all_gather({parts}, {part.contiguous()}).wait();
  return parts;
}

Tensor gathered(const Tensor& part, int64_t dim, const ProcessGroup& group) {
  return at::cat(gather_stacked(part, group).unbind(0), dim);
}

void check_divides(const char* operation, const Tensor& tensor, int64_t dim,
                   const ProcessGroup& group) {
  TORCH_CHECK(tensor.size(dim) % group.size() == 0, operation, " over group \"", group.name(),
              "\": dim ", dim, " of ", tensor.sizes(), " does not divide by ", group.size(),
              " ranks");
}

// The parts that go to each rank along a new leading dim: [size, *part].
Tensor stacked_parts(const Tensor& whole, int64_t dim, const ProcessGroup& group) {
  return at::stack(whole.chunk(group.size(), dim));
}

Tensor scattered(const Tensor& whole, int64_t dim, const ProcessGroup& group) {
  const Tensor parts = stacked_parts(whole, dim, group);
  const Tensor sum = at::zeros(parts.sizes().slice(1), whole.options());
  group.reduce_scatter_add({sum}, {parts}).wait();
  return sum;
}

Tensor summed(const Tensor& addend, const ProcessGroup& group) {
  const Tensor sum = addend.clone(at::MemoryFormat::Contiguous);
  group.all_reduce(sum).wait();
  return sum;
}

Tensor exchanged(const Tensor& tensor, int64_t split_dim, int64_t concat_dim,
                 const ProcessGroup& group) {
  const Tensor parts = stacked_parts(tensor, split_dim, group);
  const Tensor received = at::empty_like(parts);
  const std::vector<int64_t> one_row_each(static_cast<size_t>(group.size()), 1);
  group.all_to_all(received, parts, one_row_each, one_row_each).wait();
  return at::cat(received.unbind(0), concat_dim);
}

// A group on its way from forward to backward.
struct HeldGroup : torch::CustomClassHolder {
  explicit HeldGroup(const ProcessGroup& held) : group(held) {}
  ProcessGroup group;
};

void remember(AutogradContext* context, const ProcessGroup& group) {
  context->saved_data["group"] = at::IValue::make_capsule(c10::make_intrusive<HeldGroup>(group));
}

ProcessGroup recall(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<HeldGroup>(context->saved_data["group"].toCapsule())
      ->group;
}

struct GatherDim : torch::autograd::Function<GatherDim> {
  static Tensor forward(AutogradContext* context, const Tensor& part, int64_t dim,
                        const ProcessGroup& group) {
    context->saved_data["dim"] = dim;
    remember(context, group);
    return gathered(part, dim, group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {scattered(grads[0], context->saved_data["dim"].toInt(), recall(context)), Tensor(),
            Tensor()};
  }
};

struct ScatterSum : torch::autograd::Function<ScatterSum> {
  static Tensor forward(AutogradContext* context, const Tensor& whole, int64_t dim,
                        const ProcessGroup& group) {
    context->saved_data["dim"] = dim;
    remember(context, group);
    return scattered(whole, dim, group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {gathered(grads[0], context->saved_data["dim"].toInt(), recall(context)), Tensor(),
            Tensor()};
  }
};

struct SumOver : torch::autograd::Function<SumOver> {
  static Tensor forward(AutogradContext*, const Tensor& addend, const ProcessGroup& group) {
    return summed(addend, group);
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    return {grads[0], Tensor()};
  }
};

struct SpreadOver : torch::autograd::Function<SpreadOver> {
  static Tensor forward(AutogradContext* context, const Tensor& value, const ProcessGroup& group) {
    remember(context, group);
    return value.view_as(value);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {summed(grads[0], recall(context)), Tensor()};
  }
};

struct ExchangeDims : torch::autograd::Function<ExchangeDims> {
  static Tensor forward(AutogradContext* context, const Tensor& tensor, int64_t split_dim,
                        int64_t concat_dim, const ProcessGroup& group) {
    context->saved_data["split_dim"] = split_dim;
    context->saved_data["concat_dim"] = concat_dim;
    remember(context, group);
    return exchanged(tensor, split_dim, concat_dim, group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {exchanged(grads[0], context->saved_data["concat_dim"].toInt(),
                      context->saved_data["split_dim"].toInt(), recall(context)),
            Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor gather_dim(const Tensor& part, int64_t dim, const ProcessGroup& group) {
  return group.size() == 1 ? part : GatherDim::apply(part, dim, group);
}

Tensor scatter_sum(const Tensor& whole, int64_t dim, const ProcessGroup& group) {
  check_divides("scatter_sum", whole, dim, group);
  return group.size() == 1 ? whole : ScatterSum::apply(whole, dim, group);
}

Tensor sum_over(const Tensor& addend, const ProcessGroup& group) {
  return group.size() == 1 ? addend : SumOver::apply(addend, group);
}

Tensor spread_over(const Tensor& value, const ProcessGroup& group) {
  return group.size() == 1 ? value : SpreadOver::apply(value, group);
}

Tensor exchange_dims(const Tensor& tensor, int64_t split_dim, int64_t concat_dim,
                     const ProcessGroup& group) {
  check_divides("exchange_dims", tensor, split_dim, group);
  return group.size() == 1 ? tensor : ExchangeDims::apply(tensor, split_dim, concat_dim, group);
}

}  // namespace tessera
