#include "parallel/comm/process_group.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

#include "parallel/comm/process_group_impl.h"

namespace tessera {
namespace {

using at::Tensor;
using Impl = ProcessGroup::Impl;
using BackendWork = c10::intrusive_ptr<c10d::Work>;

c10d::ReduceOp to_c10d(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return c10d::ReduceOp::SUM;
    case ReduceOp::kMax:
      return c10d::ReduceOp::MAX;
    case ReduceOp::kMin:
      return c10d::ReduceOp::MIN;
  }
  TORCH_INTERNAL_ASSERT(false, "unknown ReduceOp");
}

void check_contiguous(const Impl& impl, const char* operation, const Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous(), operation, " in group \"", impl.name, "\": tensor ",
              tensor.sizes(), " has strides ", tensor.strides(), "; expected a contiguous one");
}

[[noreturn]] void throw_comm_error(const Impl& impl, const char* operation,
                                   const std::exception& error) {
  throw CommError(c10::str(operation, " in group \"", impl.name, "\" (ranks ",
                           c10::Join(", ", impl.ranks), ") failed: ", backend_message(error)),
                  impl.ranks);
}

// Starts an operation; `bytes` is the number of bytes that leave this rank.
BackendWork start(Impl& impl, const char* operation, int64_t bytes,
                  const std::function<BackendWork(c10d::Backend&)>& issue) {
  TORCH_CHECK(impl.backend, operation, " in group \"", impl.name,
              "\": a planned group has no connections");
  const at::NoGradGuard no_grad;
  ++impl.counters.num_calls;
  impl.counters.num_bytes_sent += bytes;
  try {
    return issue(*impl.backend);
  } catch (const std::exception& error) {
    throw_comm_error(impl, operation, error);
  }
}

void finish(const Impl& impl, const char* operation, const BackendWork& work) {
  try {
    work->wait();
  } catch (const std::exception& error) {
    throw_comm_error(impl, operation, error);
  }
}

int64_t bytes_of(const Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

// Gloo's reduce-scatter moves as much as an all-reduce; an all-to-all and a local sum are six times
// faster and sum in rank order.
bool scatters_by_all_to_all(const c10d::Backend& backend) {
  return backend.getBackendName() == "gloo";
}

// Tensors up to this size travel together: the time of their messages would be that of the delay.
constexpr int64_t kSmallBytes = 256 << 10;

void add_parts(const std::vector<Tensor>& outputs, const Tensor& sum) {
  int64_t begin = 0;
  for (const Tensor& output : outputs) {
    output.add_(sum.narrow(0, begin, output.numel()).view(output.sizes()));
    begin += output.numel();
  }
}

// Starts summing input, flattened [size, all outputs], into this rank's row; the function returned
// waits and adds it to the outputs.
std::function<void()> start_scatter(const std::shared_ptr<Impl>& impl,
                                    const std::vector<Tensor>& outputs, const Tensor& input) {
  const auto size = static_cast<int64_t>(impl->ranks.size());
  if (size == 1) return [outputs, input] { add_parts(outputs, input.view({-1})); };
  const int64_t bytes = (size - 1) * (bytes_of(input) / size);
  const int64_t numel = input.numel() / size;
  if (scatters_by_all_to_all(*impl->backend)) {
    Tensor parts = at::empty({size, numel}, input.options());
    const BackendWork work = start(*impl, "reduce_scatter", bytes, [&](c10d::Backend& backend) {
      Tensor from = input.view({size, -1});
      std::vector<int64_t> to_rows(impl->ranks.size(), 1), from_rows(impl->ranks.size(), 1);
      return backend.alltoall_base(parts, from, to_rows, from_rows);
    });
    return [impl, outputs, input, parts, work] {
      finish(*impl, "reduce_scatter", work);
      add_parts(outputs, parts.sum(0));
    };
  }
  Tensor sum = at::empty({numel}, input.options());
  const BackendWork work = start(*impl, "reduce_scatter", bytes, [&](c10d::Backend& backend) {
    Tensor flat_input = input.view({-1});
    return backend._reduce_scatter_base(sum, flat_input);
  });
  return [impl, outputs, input, sum, work] {
    finish(*impl, "reduce_scatter", work);
    add_parts(outputs, sum);
  };
}

int64_t sum_of(const std::vector<int64_t>& values) {
  int64_t sum = 0;
  for (const int64_t value : values) sum += value;
  return sum;
}

}  // namespace

std::string backend_message(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = c10_error ? c10_error->what_without_backtrace() : error.what();
  // Gloo's advice is the same after every lost peer.
  const size_t end = std::min(text.find("\nException raised from"),
                              text.find(". This is typically caused by a remote worker"));
  return text.substr(0, end);
}

void PendingWork::wait() {
  if (finish_) std::exchange(finish_, {})();
}

ProcessGroup::ProcessGroup(std::string name, std::vector<int64_t> ranks)
    : impl_(std::make_shared<Impl>(Impl{.name = std::move(name), .ranks = std::move(ranks)})) {
  TORCH_INTERNAL_ASSERT(impl_->ranks.size() == 1, "a group of several ranks needs a backend");
}

int64_t ProcessGroup::rank() const { return impl_->rank; }
int64_t ProcessGroup::size() const { return static_cast<int64_t>(impl_->ranks.size()); }
const std::string& ProcessGroup::name() const { return impl_->name; }
const std::vector<int64_t>& ProcessGroup::ranks() const { return impl_->ranks; }
const CommCounters& ProcessGroup::counters() const { return impl_->counters; }
c10::DeviceType ProcessGroup::device_type() const {
  const bool is_nccl = impl_->backend && impl_->backend->getBackendName() == "nccl";
  return is_nccl ? c10::DeviceType::CUDA : c10::DeviceType::CPU;
}

PendingWork ProcessGroup::all_reduce(const Tensor& tensor, ReduceOp op) const {
  check_contiguous(*impl_, "all_reduce", tensor);
  if (size() == 1 || tensor.numel() == 0) return {};
  c10d::AllreduceOptions options;
  options.reduceOp = to_c10d(op);
  const int64_t bytes = all_reduce_sent(bytes_of(tensor), size());
  const BackendWork work = start(*impl_, "all_reduce", bytes, [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {tensor};
    return backend.allreduce(tensors, options);
  });
  return PendingWork([impl = impl_, tensor, work] { finish(*impl, "all_reduce", work); });
}

PendingWork ProcessGroup::all_gather(const std::vector<Tensor>& outputs,
                                     const std::vector<Tensor>& inputs) const {
  TORCH_CHECK(outputs.size() == inputs.size(), "all_gather: ", outputs.size(), " outputs for ",
              inputs.size(), " inputs; expected as many");
  std::vector<BackendWork> works;
  std::vector<Tensor> small_outputs, small_inputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_contiguous(*impl_, "all_gather", outputs[i]);
    check_contiguous(*impl_, "all_gather", inputs[i]);
    TORCH_CHECK(outputs[i].numel() == size() * inputs[i].numel(), "all_gather in group \"", name(),
                "\": output ", outputs[i].sizes(), " for input ", inputs[i].sizes(), "; expected ",
                size(), " times as many elements");
    if (inputs[i].numel() == 0) continue;
    Tensor output = outputs[i].view({-1}), input = inputs[i].view({-1});
    if (size() == 1) {
      output.copy_(input);
    } else if (bytes_of(output) <= kSmallBytes) {
      small_outputs.push_back(output);
      small_inputs.push_back(input);
    } else {
      works.push_back(start(*impl_, "all_gather", (size() - 1) * bytes_of(input),
                            [&](c10d::Backend& b) { return b._allgather_base(output, input); }));
    }
  }
  if (!small_inputs.empty()) {
    int64_t bytes = 0;
    for (const Tensor& input : small_inputs) bytes += (size() - 1) * bytes_of(input);
    works.push_back(start(*impl_, "all_gather", bytes, [&](c10d::Backend& backend) {
      return backend.allgather_into_tensor_coalesced(small_outputs, small_inputs);
    }));
  }
  return PendingWork([impl = impl_, outputs, inputs, works] {
    for (const BackendWork& work : works) finish(*impl, "all_gather", work);
  });
}

PendingWork ProcessGroup::reduce_scatter_add(const std::vector<Tensor>& outputs,
                                             const std::vector<Tensor>& inputs) const {
  TORCH_CHECK(outputs.size() == inputs.size(), "reduce_scatter: ", outputs.size(), " outputs for ",
              inputs.size(), " inputs; expected as many");
  const at::NoGradGuard no_grad;
  std::vector<std::function<void()>> additions;
  std::vector<Tensor> small_outputs, small_inputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor &output = outputs[i], &input = inputs[i];
    check_contiguous(*impl_, "reduce_scatter", output);
    check_contiguous(*impl_, "reduce_scatter", input);
    TORCH_CHECK(input.numel() == size() * output.numel(), "reduce_scatter in group \"", name(),
                "\": input ", input.sizes(), " for output ", output.sizes(), "; expected ", size(),
                " times as many elements");
    if (output.numel() == 0) continue;
    if (size() > 1 && bytes_of(input) <= kSmallBytes) {
      small_outputs.push_back(output);
      small_inputs.push_back(input.view({size(), -1}));
    } else {
      additions.push_back(start_scatter(impl_, {output}, input));
    }
  }
  if (!small_inputs.empty()) {
    additions.push_back(start_scatter(impl_, small_outputs, at::cat(small_inputs, 1)));
  }
  return PendingWork([additions = std::move(additions)] {
    const at::NoGradGuard no_grad_in_wait;
    for (const auto& add : additions) add();
  });
}

PendingWork ProcessGroup::all_to_all(const Tensor& output, const Tensor& input,
                                     const std::vector<int64_t>& output_rows,
                                     const std::vector<int64_t>& input_rows) const {
  check_contiguous(*impl_, "all_to_all", output);
  check_contiguous(*impl_, "all_to_all", input);
  TORCH_CHECK(sum_of(output_rows) == output.size(0) && sum_of(input_rows) == input.size(0),
              "all_to_all in group \"", name(), "\": output ", output.sizes(), " with rows ",
              output_rows, ", input ", input.sizes(), " with rows ", input_rows,
              "; expected rows that sum to dim 0");
  if (size() == 1) {
    output.copy_(input);
    return {};
  }
  const int64_t row_bytes = input.size(0) == 0 ? 0 : bytes_of(input) / input.size(0);
  const int64_t own_rows = input_rows[static_cast<size_t>(rank())];
  const int64_t bytes = (input.size(0) - own_rows) * row_bytes;
  const BackendWork work = start(*impl_, "all_to_all", bytes, [&](c10d::Backend& backend) {
    Tensor to = output, from = input;
    std::vector<int64_t> to_rows = output_rows, from_rows = input_rows;  // it moves from them
    return backend.alltoall_base(to, from, to_rows, from_rows);
  });
  return PendingWork([impl = impl_, output, input, work] { finish(*impl, "all_to_all", work); });
}

PendingWork ProcessGroup::broadcast(const Tensor& tensor, int64_t root) const {
  check_contiguous(*impl_, "broadcast", tensor);
  if (size() == 1 || tensor.numel() == 0) return {};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  const int64_t bytes = rank() == root ? (size() - 1) * bytes_of(tensor) : 0;
  const BackendWork work = start(*impl_, "broadcast", bytes, [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {tensor};
    return backend.broadcast(tensors, options);
  });
  return PendingWork([impl = impl_, tensor, work] { finish(*impl, "broadcast", work); });
}

PendingWork ProcessGroup::send(const Tensor& tensor, int64_t to, int64_t tag) const {
  check_contiguous(*impl_, "send", tensor);
  const BackendWork work = start(*impl_, "send", bytes_of(tensor), [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {tensor};
    return backend.send(tensors, static_cast<int>(to), static_cast<int>(tag));
  });
  return PendingWork([impl = impl_, tensor, work] { finish(*impl, "send", work); });
}

PendingWork ProcessGroup::receive(const Tensor& tensor, int64_t from, int64_t tag) const {
  check_contiguous(*impl_, "receive", tensor);
  const BackendWork work = start(*impl_, "receive", 0, [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {tensor};
    return backend.recv(tensors, static_cast<int>(from), static_cast<int>(tag));
  });
  return PendingWork([impl = impl_, tensor, work] { finish(*impl, "receive", work); });
}

void ProcessGroup::barrier() const {
  if (size() == 1) return;
  finish(*impl_, "barrier",
         start(*impl_, "barrier", 0, [](c10d::Backend& backend) { return backend.barrier(); }));
}

void ProcessGroup::set_timeout(std::chrono::milliseconds timeout) const {
  if (size() > 1) impl_->backend->setTimeout(timeout);
}

}  // namespace tessera
