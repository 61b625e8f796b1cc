#include "parallel/context/plan/context_traffic.h"

#include <c10/util/Exception.h>

#include "parallel/context/plan/block_work.h"

namespace tessera {
namespace {

// The number of blocks that each rank (first index) gets from each rank (second index).
BlockLists blocks_between(const BlockMask& whole, const ShardPlan& plan, ContextMethod method) {
  const auto num_ranks = static_cast<size_t>(plan.num_ranks());
  BlockLists between(num_ranks, std::vector<int64_t>(num_ranks, plan.blocks_per_rank()));
  if (method == ContextMethod::kAllGather) return between;
  const BlockLists needed = needed_kv_by_rank(whole, plan);
  for (size_t reader = 0; reader < num_ranks; ++reader) {
    std::vector<int64_t>& from = between[reader];
    from.assign(num_ranks, 0);
    for (const int64_t block : needed[reader]) ++from[static_cast<size_t>(plan.owner(block))];
    if (method != ContextMethod::kRing) continue;
    for (int64_t& blocks : from) blocks = blocks > 0 ? plan.blocks_per_rank() : 0;  // whole shards
  }
  return between;
}

}  // namespace

KvMoves kv_moves(const BlockMask& whole, const ShardPlan& plan, ContextMethod method) {
  TORCH_CHECK(method != ContextMethod::kAllToAll,
              "kv_moves: got all_to_all, expected a method that moves keys");
  check_mask_blocks("kv_moves", whole, plan.seq_len(), plan.block_size());
  const BlockLists between = blocks_between(whole, plan, method);
  const auto num_ranks = static_cast<size_t>(plan.num_ranks());
  KvMoves moves{.sent = std::vector<int64_t>(num_ranks),
                .received = std::vector<int64_t>(num_ranks)};
  for (size_t reader = 0; reader < num_ranks; ++reader) {
    for (size_t owner = 0; owner < num_ranks; ++owner) {
      if (reader == owner) continue;
      moves.sent[owner] += between[reader][owner];
      moves.received[reader] += between[reader][owner];
    }
  }
  return moves;
}

}  // namespace tessera
