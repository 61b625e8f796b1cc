// Internal to parallel/fsdp/: one unit (block) of ShardedParameters, its buffers and their traffic.
// Every method that starts or finishes traffic is collective over the group; CommError when a rank
// is lost.
//
// With one rank in the group the whole buffers are the shards: nothing is allocated, sent or freed.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/fsdp/shard_layout.h"
#include "parallel/fsdp/sharded_parameters.h"
#include "parallel/segment.h"

namespace tessera {

// Counts the bytes that units allocate and free.
class ByteMeter {
 public:
  void add(int64_t bytes) {
    bytes_.now += bytes;
    bytes_.peak = std::max(bytes_.peak, bytes_.now);
  }
  const TransientBytes& bytes() const { return bytes_; }

 private:
  TransientBytes bytes_;
};

class ShardedUnit {
 public:
  // compute_shard and gradient_shard are this rank's part, laid out as `layout` says. Re-points the
  // slots of the block to leaves over the whole parameters. The meter must outlive the unit.
  ShardedUnit(Block& block, ShardLayout layout, const ProcessGroup& group,
              const at::Tensor& compute_shard, const at::Tensor& gradient_shard, ByteMeter& meter);

  // Whole parameters: gather (start early, finish when needed; both may be repeated), free.
  void start_gather();
  void finish_gather();
  void free_parameters();

  // Whole gradients: a zeroed buffer that autograd adds to, unless there is one already.
  void begin_gradients();

  // The sum of the whole gradients over the group: it is added to the gradient shard, and finish
  // frees the whole gradients.
  void start_reduction();
  void finish_reduction();
  bool is_reducing() const { return is_reducing_; }
  bool has_whole_gradients() const { return has_gradients_; }

 private:
  bool is_alone() const { return layout_.num_ranks == 1; }
  std::vector<at::Tensor> shards_of(const at::Tensor& flat) const;
  std::vector<at::Tensor> wholes_of(const at::Tensor& flat) const;

  ShardLayout layout_;
  ProcessGroup group_;
  at::Tensor compute_shard_;
  at::Tensor gradient_shard_;
  at::Tensor parameters_;  // whole, flat; without storage while freed
  at::Tensor gradients_;
  ByteMeter& meter_;

  PendingWork gather_;
  PendingWork reduction_;
  bool is_gathering_ = false;
  bool is_whole_ = false;
  bool has_gradients_ = false;
  bool is_reducing_ = false;
};

}  // namespace tessera
