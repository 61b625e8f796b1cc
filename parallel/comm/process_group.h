// ProcessGroup: a group of ranks and what they can do together, over c10d (Gloo on CPUs, NCCL on
// GPUs).
//
// A ProcessGroup is a cheap handle that is passed down to whoever communicates. A group of one rank
// needs no backend: every operation is the identity, so degree 1 runs the same lines as degree N.
//
//   ProcessGroup group = world.group("tp", {0, 1});
//   group.all_reduce(sum).wait();
//   PendingWork gather = group.all_gather({whole}, {part});   // runs beside computation
//   ...
//   gather.wait();
//
// Every rank of a group calls the same operations in the same order with tensors of the same sizes
// and dtypes; a group is used by one thread of its rank at a time. Tensors are contiguous, on
// device_type(). No operation is recorded by autograd; collectives.h has those that are.
//
// Errors: c10::Error for a strided tensor (Gloo would read the wrong elements), for sizes that do
// not fit, and for a planned group (World::planned), which has no connections. CommError when the
// operation fails, at the call or in wait().
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceType.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace tessera {

// Communication failed: a peer is gone, did not answer in time, or was never there. The message
// names group, operation and what the backend said.
class CommError : public std::runtime_error {
 public:
  explicit CommError(const std::string& message, std::vector<int64_t> group_ranks = {})
      : std::runtime_error(message), ranks(std::move(group_ranks)) {}

  std::vector<int64_t> ranks;  // of the group that failed; empty when it is not one group's
};

enum class ReduceOp { kSum, kMax, kMin };

// An operation that may still be running. The tensors it reads and writes are kept alive, and must
// not be touched before wait() has returned. Dropping it without wait() is for unwinding only.
class PendingWork {
 public:
  PendingWork() = default;  // nothing to wait for

  // Blocks until the results are there (on a GPU: until the current stream may use them). A second
  // call does nothing. Throws CommError.
  void wait();

 private:
  friend class ProcessGroup;
  explicit PendingWork(std::function<void()> finish) : finish_(std::move(finish)) {}
  std::function<void()> finish_;
};

// The operations that a rank has started in a group and the bytes that they hand over to other
// ranks, the rank's own part not counted. Groups of one rank count nothing.
struct CommCounters {
  int64_t num_calls = 0;
  int64_t num_bytes_sent = 0;
};

// Bytes that a rank sends for an all-reduce of `bytes` bytes: each of the other ranks' parts once
// to be summed and its own part's sum to each of them.
constexpr int64_t all_reduce_sent(int64_t bytes, int64_t num_ranks) {
  return 2 * (num_ranks - 1) * bytes / num_ranks;
}

class ProcessGroup {
 public:
  // A group of one rank. Groups of several ranks come from World::group.
  ProcessGroup() : ProcessGroup("single", {0}) {}
  ProcessGroup(std::string name, std::vector<int64_t> ranks);  // one rank

  int64_t rank() const;  // of this process in the group
  int64_t size() const;
  const std::string& name() const;
  const std::vector<int64_t>& ranks() const;  // global ranks, ascending
  const CommCounters& counters() const;

  // The device of the tensors that the backend moves: CUDA for NCCL, else CPU (Gloo takes others as
  // well).
  c10::DeviceType device_type() const;

  // Reduces `tensor` in place over the ranks.
  PendingWork all_reduce(const at::Tensor& tensor, ReduceOp op = ReduceOp::kSum) const;

  // outputs[i], flattened, is the ranks' inputs[i] one after the other. outputs[i] may be the
  // storage that inputs[i] is this rank's part of.
  PendingWork all_gather(const std::vector<at::Tensor>& outputs,
                         const std::vector<at::Tensor>& inputs) const;

  // outputs[i] += (this rank's part of) the sum of all ranks' inputs[i], which has size() times as
  // many elements. Added in wait(), in rank order where the backend leaves the order open (Gloo).
  PendingWork reduce_scatter_add(const std::vector<at::Tensor>& outputs,
                                 const std::vector<at::Tensor>& inputs) const;

  // Rows (dim 0) of input go to the ranks in order, input_rows[r] to rank r; output_rows[r] come
  // from rank r.
  PendingWork all_to_all(const at::Tensor& output, const at::Tensor& input,
                         const std::vector<int64_t>& output_rows,
                         const std::vector<int64_t>& input_rows) const;

  // Overwrites `tensor` with that of the group's rank `root`.
  PendingWork broadcast(const at::Tensor& tensor, int64_t root) const;

  // Point to point, in groups of several ranks; peers are ranks of the group, tags match a send
  // with its receive.
  PendingWork send(const at::Tensor& tensor, int64_t to, int64_t tag) const;
  PendingWork receive(const at::Tensor& tensor, int64_t from, int64_t tag) const;

  // Returns when all ranks have called it.
  void barrier() const;

  // Sets the timeout of operations that start after the call.
  void set_timeout(std::chrono::milliseconds timeout) const;

  struct Impl;  // process_group_impl.h
  explicit ProcessGroup(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tessera
