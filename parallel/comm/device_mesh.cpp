#include "parallel/comm/device_mesh.h"

namespace tessera {

DeviceMesh::DeviceMesh(const World& world, const ParallelDims& dims)
    : world_(world), dims_(resolve(dims, world.size())) {
  const auto group = [this](const char* name, const std::vector<Axis>& axes) {
    return world_.group(name, dims_.group_ranks(world_.rank(), axes));
  };
  pp_ = group("pp", {Axis::kPp});
  cp_ = group("cp", {Axis::kCp});
  tp_ = group("tp", {Axis::kTp});
  shard_ = group("dp_shard_cp", {Axis::kDpShard, Axis::kCp});
  replicate_ = group("dp_replicate", {Axis::kDpReplicate});
  loss_ = group("dp_cp", {Axis::kDpReplicate, Axis::kDpShard, Axis::kCp});
  model_ = group("model", {Axis::kPp, Axis::kDpShard, Axis::kCp, Axis::kTp});
  all_ = world_.all();
}

int64_t DeviceMesh::batch_index() const {
  return dims_.index_in_group(world_.rank(), {Axis::kDpReplicate, Axis::kDpShard});
}

}  // namespace tessera
