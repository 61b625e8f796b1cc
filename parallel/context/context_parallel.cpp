#include "parallel/context/context_parallel.h"

#include <c10/util/Exception.h>

#include <iomanip>
#include <sstream>

#include "parallel/context/context_attention.h"
#include "parallel/context/kv_exchange.h"

namespace tessera {
namespace {

constexpr int64_t kLargestTile = 128;

// Runs of blocks that a row is cut into: head-tail gives each rank two.
int64_t parts_of_a_row(int64_t num_ranks, LoadBalancer balancer) {
  return balancer == LoadBalancer::kHeadTail ? 2 * num_ranks : num_ranks;
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
                                 ContextMethod method, WorkWeights weights)
    : group_(group), balancer_(balancer), method_(method), weights_(std::move(weights)) {}

CreateMaskFn ContextParallel::tiles_to_share(CreateMaskFn create_mask_fn) const {
  if (group_.size() == 1) return create_mask_fn;
  const int64_t num_parts = parts_of_a_row(group_.size(), balancer_);
  return [num_parts, create_mask_fn](const MaskMod& rule, const MaskShape& shape) {
    if (shape.sequence == MaskSequence::kOwn) return create_mask_fn(rule, shape);
    MaskShape shared = shape;
    const int64_t tile = tile_for(shape.q_len, num_parts);
    shared.block = {.q = tile, .kv = tile};
    return create_mask_fn(rule, shared);
  };
}

BlockWork ContextParallel::work_of(const AttentionMasks& rows) const {
  const std::vector<std::string> names = rows.names();
  TORCH_CHECK(!names.empty(), "context parallelism: the model has no masks to share the work by");
  return block_work(rows, rows.at(names.front()).shape().block.q, weights_);
}

MaskedBatch ContextParallel::share(const MaskedBatch& whole) const {
  if (group_.size() == 1) return whole;
  const ShardPlan plan = balance(balancer_, work_of(whole.masks.of_rows()), group_.size());
  return {shard(whole.batch, plan, group_.rank()),
          shard(whole.masks, plan, group_.rank(), method_)};
}

ContextForecast ContextParallel::forecast(const AttentionMasks& whole) const {
  TORCH_CHECK(group_.size() > 1, "context parallelism: nothing to forecast on one rank");
  const AttentionMasks rows = whole.of_rows();
  const BlockWork work = work_of(rows);
  const ShardPlan plan = balance(balancer_, work, group_.size());
  double moved = 0, layers = 0;
  for (size_t i = 0; i < work.reads.size(); ++i) {
    const BlockMask& mask = rows.at(rows.names()[i]);
    const int64_t blocks = num_moved_blocks(plan, needed_kv_by_rank(mask, plan));
    moved += work.reads[i].weight * static_cast<double>(blocks);
    layers += work.reads[i].weight;
  }
  const int64_t all = (plan.num_ranks() - 1) * plan.num_blocks();
  return {.balancer = balancer_,
          .method = method_,
          .num_ranks = plan.num_ranks(),
          .tile = plan.block_size(),
          .row_multiple = parts_of_a_row(plan.num_ranks(), balancer_) * kLargestTile,
          .imbalance = imbalance(plan, work),
          .needed_share = moved / (layers * static_cast<double>(all))};
}

std::string to_string(const ContextForecast& f) {
  std::ostringstream text;
  text << f.num_ranks << " ranks, " << to_string(f.method) << ", balanced by "
       << to_string(f.balancer) << " in tiles of " << f.tile << " tokens: the busiest rank has "
       << std::fixed << std::setprecision(3) << f.imbalance << " times the mean work, rows touch "
       << std::setprecision(0) << 100 * f.needed_share << " % of the keys of other ranks";
  return text.str();
}

AttentionOp ContextParallel::wrap(const AttentionOp& op) const {
  return group_.size() == 1 ? op : wrap_context_parallel(op, group_);
}

}  // namespace tessera
