// ShardedParameters: the parameters of a model on one rank. FSDP, HSDP, DDP and the single rank are
// one mechanism.
//
// Each block of the model is a unit. Ranks of the shard group hold equal parts of every unit
// (shard_layout.h): masters, gradients and, in mixed precision, compute copies, each in one flat
// buffer. A unit's parameters are whole only while it is used:
//
//   before a unit's forward    its shards are gathered (started while units before it computed)
//   after its forward          freed, unless reshard_after_forward is off
//   before its backward        gathered again; a zeroed buffer takes its gradients
//   after its backward         gradients are summed over the shard group into each rank's part; all
//                              else is freed
//
// Sums over the replicas (DDP, HSDP) leave in buckets during the last microbatch's backward. With
// groups of one rank nothing is sent, gathered or freed, and the model computes on the masters
// themselves: degree 1 is the same code.
//
//   ShardedParameters parameters(model.blocks(), {.shard = mesh.shard()}, {.device = device});
//   for (NamedShard& part : parameters.named(parameters.masters())) {
//     initialize_shard(part.tensor, part.where, part.init, seed, part.name);
//   }
//   parameters.refresh();
//   parameters.zero_gradients();
//   for (each microbatch) { if (last) parameters.expect_last_backward(); forward; backward; }
//   parameters.finish_gradients();
//
// Memory on a rank at rest: its parts. During a step at most three units more with one reduction at
// a time: this unit's parameters and gradients, and the parameters gathered ahead (while gradients
// travel, their own unit's parameters are already freed).
//
// Source: Zhao et al. 2023 (FSDP), Rajbhandari et al. 2020 (ZeRO-3).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/fsdp/shard_layout.h"
#include "parallel/segment.h"
#include "parallel/slot.h"

namespace tessera {

// The groups of ranks that share parameters with this rank. Defaults are one rank.
struct ParameterGroups {
  ProcessGroup shard = {};      // each holds a part
  ProcessGroup replicate = {};  // each holds the same
  ProcessGroup tensor = {};     // tensor parallelism; see sum_whole_gradients_over_tensor
};

struct ShardedParametersOptions {
  at::Device device = at::kCPU;               // where the model computes
  at::Device storage_device = at::kCPU;       // of masters and gradients (CPU offload)
  at::ScalarType master_dtype = at::kFloat;   // of masters and gradients, and of their sums
  at::ScalarType compute_dtype = at::kFloat;  // of the gathered parameters

  bool reshard_after_forward = true;
  bool reshard_last_block = false;  // its backward comes next

  // Gradients of whole units stay in place until finish_gradients() sums them (pipelines, where
  // weight gradients come late), instead of being summed after each backward.
  bool reduce_at_end = false;

  // With sequence parallelism each tensor rank sees a part of the tokens: gradients of parameters
  // that are not cut by tensor parallelism (norms) are parts as well, to be summed.
  bool sum_whole_gradients_over_tensor = false;

  int64_t bucket_bytes = int64_t{25} << 20;  // of sums over the replicas
};

// This rank's rectangle of a parameter.
struct NamedShard {
  std::string name;
  at::Tensor tensor;                 // view; empty (0 rows) on ranks beyond the last row
  Rectangle where;                   // the tensor's place in the whole parameter
  std::vector<int64_t> whole_shape;  // of the parameter
  InitSpec init = {};

  // True on one rank of all that hold this rectangle: the rank that counts it in norms and writes
  // it to files. Ranks of the replicate group are not told apart here.
  bool is_counted = true;
};

// The layouts of the blocks' parameters, one unit for each block.
std::vector<ShardLayout> shard_layouts(const std::vector<Block*>& blocks, int64_t num_ranks);

// A tensor that one rank holds whole, as the part of that rank.
NamedShard whole_shard(const std::string& name, const at::Tensor& tensor);

// The bytes that are allocated for whole parameters and gradients, beyond the flat buffers: at the
// moment and at most since construction.
struct TransientBytes {
  int64_t now = 0;
  int64_t peak = 0;
};

class ShardedParameters {
 public:
  // Re-points the blocks' slots (usually on the meta device before) and sets the blocks' callbacks,
  // which must be empty but for `observe`. Values are undefined until masters() are filled and
  // refresh() is called. The blocks must outlive the object. Throws c10::Error for slots without
  // tensor, names or addresses that occur twice, and dtypes that cannot have gradients.
  ShardedParameters(const std::vector<Block*>& blocks, const ParameterGroups& groups,
                    const ShardedParametersOptions& options);
  ~ShardedParameters();
  ShardedParameters(const ShardedParameters&) = delete;
  ShardedParameters& operator=(const ShardedParameters&) = delete;

  // Flat buffers of this rank's parts, laid out alike; what an optimizer works on. Padding is zero.
  const at::Tensor& masters() const;
  const at::Tensor& gradients() const;

  // This rank's parts as views into `flat`, a buffer laid out like masters(). Throws c10::Error
  // when it has another size or is not contiguous.
  std::vector<NamedShard> named(const at::Tensor& flat) const;

  // To be called after the masters changed: renews compute copies and frees whatever is gathered.
  void refresh();

  void zero_gradients();

  // Announces that the backward of the next microbatch is the step's last: sums over replicas may
  // leave.
  void expect_last_backward();

  // To be called after the last backward; afterwards gradients() hold this rank's part of the sum
  // over all ranks. Collective, as every backward is; CommError when a rank is lost.
  void finish_gradients();

  // With reduce_at_end, to be called when the gradients of these blocks are complete: sums them
  // over the shard group and frees the whole ones, which finish_gradients() does with all others.
  void reduce_gradients(const std::vector<Block*>& blocks);
  bool reduces_at_end() const;

  // Has finish_gradients() sum over `group` the gradient shard of a parameter that a rank of
  // another pipeline stage holds as well (tied embeddings). Throws c10::Error for an unknown name.
  void share_gradient(const std::string& name, const ProcessGroup& group);

  TransientBytes transient_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
