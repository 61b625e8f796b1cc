// How much the methods of context parallelism send, told for all ranks at once from a plan and the
// masks of the whole sequence. The counts are those of the messages that sharded masks
// (shard_masks.h) carry.
//
//   const KvMoves moves = kv_moves(masks.at("global"), plan, ContextMethod::kNeededKv);
//   const int64_t sent = kv_bytes(moves.sent[rank] + moves.received[rank], plan, sizes);
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context/plan/shard_masks.h"

namespace tessera {

// Blocks of keys and values of one layer, by rank. Forward sends `sent`; backward returns the
// gradients of `received` to their owners.
struct KvMoves {
  std::vector<int64_t> sent{};
  std::vector<int64_t> received{};

  bool operator==(const KvMoves& other) const = default;
};

// The moves of one layer with this mask. Throws c10::Error for kAllToAll, which moves heads
// (head_exchange.h), and when the mask does not fit the plan.
KvMoves kv_moves(const BlockMask& whole, const ShardPlan& plan, ContextMethod method);

}  // namespace tessera
