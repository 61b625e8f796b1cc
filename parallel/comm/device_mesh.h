// DeviceMesh: this rank's process groups, one per parallel axis and per combination of axes that
// somebody reduces over.
//
//   DeviceMesh mesh(world, {.tp = 2});
//   mesh.tp().all_reduce(partial).wait();
//
// A default mesh is one rank. Building a mesh is collective over the world. A group of one rank
// communicates with nobody, so callers need not ask for degrees.
#pragma once

#include "parallel/comm/parallel_dims.h"
#include "parallel/comm/process_group.h"
#include "parallel/comm/world.h"

namespace tessera {

class DeviceMesh {
 public:
  DeviceMesh() : DeviceMesh(World(), {}) {}

  // Throws c10::Error when the degrees do not fit the world (parallel_dims.h), CommError when a
  // group cannot connect.
  DeviceMesh(const World& world, const ParallelDims& dims);

  const World& world() const { return world_; }
  const ParallelDims& dims() const { return dims_; }  // resolved
  int64_t coordinate(Axis axis) const { return dims_.coordinate(world_.rank(), axis); }

  const ProcessGroup& pp() const { return pp_; }
  const ProcessGroup& cp() const { return cp_; }
  const ProcessGroup& tp() const { return tp_; }

  // Ranks that share one copy of the parameters of a stage: dp_shard x cp.
  const ProcessGroup& shard() const { return shard_; }
  const ProcessGroup& replicate() const { return replicate_; }  // dp_replicate

  // Ranks whose losses are parts of one sum: dp_replicate x dp_shard x cp.
  const ProcessGroup& loss() const { return loss_; }

  // Ranks that together hold each parameter once: pp x dp_shard x cp x tp.
  const ProcessGroup& model() const { return model_; }
  const ProcessGroup& all() const { return all_; }

  // The index of this rank among the ranks that read rows of their own (dp_replicate x dp_shard),
  // and their number. Ranks that differ along other axes only read the same rows.
  int64_t batch_index() const;
  int64_t num_batch_ranks() const { return dims_.dp_replicate * dims_.dp_shard; }

 private:
  World world_;
  ParallelDims dims_;
  ProcessGroup pp_, cp_, tp_, shard_, replicate_, loss_, model_, all_;
};

}  // namespace tessera
