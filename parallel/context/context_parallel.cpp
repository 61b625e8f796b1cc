#include "parallel/context/context_parallel.h"

#include <c10/util/Exception.h>

#include "parallel/context/block_work.h"
#include "parallel/context/context_attention.h"

namespace tessera {
namespace {

constexpr int64_t kLargestTile = 128;

// Head-tail gives each rank two runs of blocks.
int64_t runs_of_a_rank(LoadBalancer balancer) {
  return balancer == LoadBalancer::kHeadTail ? 2 : 1;
}

int64_t tile_for(int64_t seq_len, int64_t num_parts) {
  TORCH_CHECK(seq_len % num_parts == 0, "context parallelism: a row of ", seq_len,
              " tokens; expected a multiple of ", num_parts, " (ranks, twice with head-tail)");
  int64_t tile = kLargestTile;
  while (seq_len % (num_parts * tile) != 0) tile /= 2;
  return tile;
}

}  // namespace

ContextParallel::ContextParallel(const ProcessGroup& group, LoadBalancer balancer,
                                 ContextMethod method)
    : group_(group), balancer_(balancer), method_(method) {}

CreateMaskFn ContextParallel::tiles_to_share(CreateMaskFn create_mask_fn) const {
  if (group_.size() == 1) return create_mask_fn;
  const int64_t num_parts = group_.size() * runs_of_a_rank(balancer_);
  return [num_parts, create_mask_fn](const MaskMod& rule, const MaskShape& shape) {
    MaskShape shared = shape;
    const int64_t tile = tile_for(shape.q_len, num_parts);
    shared.block = {.q = tile, .kv = tile};
    return create_mask_fn(rule, shared);
  };
}

ContextShare ContextParallel::share(const Batch& batch, const AttentionMasks& masks) const {
  if (group_.size() == 1) return {batch, masks};
  const std::vector<std::string> names = masks.names();
  TORCH_CHECK(!names.empty(), "context parallelism: the model has no masks to share the work by");
  const int64_t block = masks.at(names.front()).shape().block.q;
  const ShardPlan plan = balance(balancer_, block_work(masks, block), group_.size());
  return {shard(batch, plan, group_.rank()), shard(masks, plan, group_.rank(), method_)};
}

AttentionOp ContextParallel::wrap(const AttentionOp& op) const {
  return group_.size() == 1 ? op : wrap_context_parallel(op, group_);
}

}  // namespace tessera
