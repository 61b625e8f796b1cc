#include "parallel/context/plan/shard_masks.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <array>

#include "parallel/context/plan/block_work.h"

namespace tessera {

namespace {

constexpr std::array<std::pair<ContextMethod, const char*>, 4> kMethods{{
    {ContextMethod::kAllGather, "all_gather"},
    {ContextMethod::kRing, "ring"},
    {ContextMethod::kAllToAll, "all_to_all"},
    {ContextMethod::kNeededKv, "needed_kv"},
}};

// The tiles of `tile` tokens that make up blocks of the plan.
std::vector<int64_t> tiles_of(const std::vector<int64_t>& blocks, int64_t block_size,
                              int64_t tile) {
  const int64_t tiles_per_block = block_size / tile;
  std::vector<int64_t> tiles;
  for (const int64_t block : blocks) {
    for (int64_t i = 0; i < tiles_per_block; ++i) tiles.push_back(block * tiles_per_block + i);
  }
  return tiles;
}

ContextStep step_of(const BlockMask& rows, const ShardPlan& plan, KvExchange exchange) {
  ContextStep step{.exchange = std::move(exchange)};
  const std::vector<int64_t>& kv_blocks = step.exchange.kv_blocks;
  if (static_cast<int64_t>(kv_blocks.size()) == plan.num_blocks()) {
    step.mask = rows;
  } else if (!kv_blocks.empty()) {
    step.mask =
        rows.select_kv_blocks(tiles_of(kv_blocks, plan.block_size(), rows.shape().block.kv));
  }
  return step;
}

// The steps of a method that exchanges keys.
std::vector<ContextStep> steps_of(const BlockMask& rows, const ShardPlan& plan, int64_t rank,
                                  ContextMethod method, const BlockLists& needed_by_rank) {
  if (method == ContextMethod::kAllGather) {
    return {step_of(rows, plan, all_gather_exchange(plan, rank))};
  }
  if (method == ContextMethod::kNeededKv) {
    return {step_of(rows, plan, needed_kv_exchange(plan, rank, needed_by_rank))};
  }
  std::vector<ContextStep> steps;
  for (int64_t step = 0; step < plan.num_ranks(); ++step) {
    steps.push_back(step_of(rows, plan, ring_exchange(plan, rank, step, needed_by_rank)));
  }
  return steps;
}

bool knows_other_ranks(ContextMethod method) {
  return method == ContextMethod::kRing || method == ContextMethod::kNeededKv;
}

BlockMask with_shard(const BlockMask& mask, const ShardPlan& plan, int64_t rank,
                     ContextMethod method, std::vector<ContextStep> steps) {
  return mask.with_plan(std::make_shared<ContextShard>(plan, rank, method, std::move(steps)));
}

BlockMask shard_named(const std::string& what, const BlockMask& whole, const ShardPlan& plan,
                      int64_t rank, ContextMethod method) {
  check_mask_blocks(what, whole, plan.seq_len(), plan.block_size());
  if (method == ContextMethod::kAllToAll) return with_shard(whole, plan, rank, method, {});
  const BlockMask rows =
      whole.select_q_blocks(tiles_of(plan.blocks(rank), plan.block_size(), whole.shape().block.q));
  const BlockLists needed =
      knows_other_ranks(method) ? needed_kv_by_rank(whole, plan) : BlockLists();
  return with_shard(rows, plan, rank, method, steps_of(rows, plan, rank, method, needed));
}

}  // namespace

ContextMethod context_method(const std::string& name) {
  std::string names;
  for (const auto& [method, known] : kMethods) {
    if (name == known) return method;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  C10_THROW_ERROR(Error, "context method: got \"" + name + "\", expected one of: " + names);
}

std::string to_string(ContextMethod method) {
  for (const auto& [known, name] : kMethods) {
    if (method == known) return name;
  }
  TORCH_INTERNAL_ASSERT(false, "a context method without a name");
}

std::string ContextShard::to_string() const {
  return c10::str("rank ", rank_, " of ", plan_.to_string(), ", ", tessera::to_string(method_));
}

bool ContextShard::equals(const MaskPlan& other) const {
  const auto& that = static_cast<const ContextShard&>(other);
  return plan_ == that.plan_ && rank_ == that.rank_ && method_ == that.method_ &&
         steps_ == that.steps_;
}

const ContextShard& context_shard(const BlockMask& mask) {
  const auto* shard = dynamic_cast<const ContextShard*>(mask.plan().get());
  TORCH_CHECK(shard != nullptr, "context_shard: got a mask ",
              mask.plan() == nullptr ? std::string("without a plan")
                                     : "with a " + mask.plan()->kind() + " plan",
              ", expected a sharded one");
  return *shard;
}

BlockMask shard(const BlockMask& whole, const ShardPlan& plan, int64_t rank, ContextMethod method) {
  return shard_named("shard: mask", whole, plan, rank, method);
}

AttentionMasks shard(const AttentionMasks& masks, const ShardPlan& plan, int64_t rank,
                     ContextMethod method) {
  AttentionMasks mine;
  for (const std::string& name : masks.names()) {
    const BlockMask& whole = masks.at(name);
    const bool is_own = whole.shape().sequence == MaskSequence::kOwn;
    mine.insert(name, is_own
                          ? whole
                          : shard_named("shard: mask \"" + name + "\"", whole, plan, rank, method));
  }
  return mine;
}

CreateMaskFn sharding_create_mask_fn(ShardPlan plan, int64_t rank, ContextMethod method,
                                     GatherBlockLists gather) {
  TORCH_CHECK(gather != nullptr || !knows_other_ranks(method),
              "sharding_create_mask_fn: gather: ", "got none, expected one for ",
              to_string(method));
  return [plan = std::move(plan), rank, method, gather = std::move(gather)](
             const MaskMod& rule, const MaskShape& shape) {
    if (shape.sequence == MaskSequence::kOwn) return create_block_mask(rule, shape);
    const std::string what = "sharding create_mask_fn(" + rule.to_string() + ")";
    check_shape_blocks(what, shape, plan.seq_len(), plan.block_size());
    if (method == ContextMethod::kAllToAll) {
      return with_shard(create_block_mask(rule, shape), plan, rank, method, {});
    }
    const BlockMask rows = create_block_mask_rows(
        rule, shape, tiles_of(plan.blocks(rank), plan.block_size(), shape.block.q));
    const BlockLists needed =
        knows_other_ranks(method) ? gather(needed_kv_blocks(rows, plan)) : BlockLists();
    return with_shard(rows, plan, rank, method, steps_of(rows, plan, rank, method, needed));
  };
}

}  // namespace tessera
