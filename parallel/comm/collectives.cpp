#include "parallel/comm/collectives.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "attention/op/autograd.h"

namespace tessera {
namespace {

using at::Tensor;

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

// There and back: forward gives the output, backward the input's gradient from that of the output.
template <typename Forward, typename Backward>
Tensor with_transpose(const Tensor& input, const Forward& forward, Backward backward) {
  return record(
      {input}, [&] { return Forwarded{.outputs = {forward(input)}}; },
      [backward = std::move(backward)](const BackwardCall& call) -> Tensors {
        return {backward(call.gradients[0])};
      })[0];
}

}  // namespace

Tensor gather_dim(const Tensor& part, int64_t dim, const ProcessGroup& group) {
  if (group.size() == 1) return part;
  return with_transpose(
      part, [&](const Tensor& x) { return gathered(x, dim, group); },
      [dim, group](const Tensor& dy) { return scattered(dy, dim, group); });
}

Tensor scatter_sum(const Tensor& whole, int64_t dim, const ProcessGroup& group) {
  check_divides("scatter_sum", whole, dim, group);
  if (group.size() == 1) return whole;
  return with_transpose(
      whole, [&](const Tensor& x) { return scattered(x, dim, group); },
      [dim, group](const Tensor& dy) { return gathered(dy, dim, group); });
}

Tensor sum_over(const Tensor& addend, const ProcessGroup& group) {
  if (group.size() == 1) return addend;
  return with_transpose(
      addend, [&](const Tensor& x) { return summed(x, group); },
      [](const Tensor& dy) { return dy; });
}

Tensor spread_over(const Tensor& value, const ProcessGroup& group) {
  if (group.size() == 1) return value;
  return with_transpose(
      value, [](const Tensor& x) { return x.view_as(x); },
      [group](const Tensor& dy) { return summed(dy, group); });
}

Tensor exchange_dims(const Tensor& tensor, int64_t split_dim, int64_t concat_dim,
                     const ProcessGroup& group) {
  check_divides("exchange_dims", tensor, split_dim, group);
  if (group.size() == 1) return tensor;
  return with_transpose(
      tensor, [&](const Tensor& x) { return exchanged(x, split_dim, concat_dim, group); },
      [split_dim, concat_dim, group](const Tensor& dy) {
        return exchanged(dy, concat_dim, split_dim, group);
      });
}

}  // namespace tessera
