#include "parallel/context/plan/context_traffic.h"

#include <gtest/gtest.h>

#include "attention/masks/mask_fn.h"
#include "parallel/context/plan/load_balance.h"
#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;
using testing::square_mask;

constexpr int64_t kRowTokens = 96, kPlanBlock = 4;

BlockMask packed_mask() {
  return square_mask(causal() & document(ids_of({7, 30, 3, 40, 16})), kRowTokens, kPlanBlock);
}

// The blocks that the sharded masks of all ranks send and receive.
KvMoves moves_of_shards(const BlockMask& whole, const ShardPlan& plan, ContextMethod method) {
  KvMoves moves;
  for (int64_t rank = 0; rank < plan.num_ranks(); ++rank) {
    moves.sent.push_back(0);
    moves.received.push_back(0);
    const BlockMask mine = shard(whole, plan, rank, method);
    for (const ContextStep& step : context_shard(mine).steps()) {
      moves.sent.back() += step.exchange.num_sent();
      moves.received.back() += step.exchange.num_received();
    }
  }
  return moves;
}

TEST(ContextTraffic, IsWhatShardedMasksCarry) {
  const BlockMask whole = packed_mask();
  const BlockWork work = block_work({{"global", whole}}, kPlanBlock);
  for (const LoadBalancer balancer : {LoadBalancer::kContiguous, LoadBalancer::kHeadTail,
                                      LoadBalancer::kRoundRobin, LoadBalancer::kMinHeap}) {
    const ShardPlan plan = balance(balancer, work, 4);
    for (const ContextMethod method :
         {ContextMethod::kAllGather, ContextMethod::kRing, ContextMethod::kNeededKv}) {
      EXPECT_EQ(kv_moves(whole, plan, method), moves_of_shards(whole, plan, method))
          << to_string(balancer) << " " << to_string(method);
    }
  }
}

TEST(ContextTraffic, MethodsMoveLessAndLess) {
  const BlockMask whole = packed_mask();
  const ShardPlan plan = contiguous_plan(kRowTokens, kPlanBlock, 4);
  const auto sent = [&](ContextMethod method) {
    int64_t sum = 0;
    for (const int64_t blocks : kv_moves(whole, plan, method).sent) sum += blocks;
    return sum;
  };
  EXPECT_EQ(sent(ContextMethod::kAllGather), 4 * 3 * 6);
  EXPECT_LT(sent(ContextMethod::kRing), sent(ContextMethod::kAllGather));
  EXPECT_LT(sent(ContextMethod::kNeededKv), sent(ContextMethod::kRing));
  EXPECT_GT(sent(ContextMethod::kNeededKv), 0);
  EXPECT_ERROR(kv_moves(whole, plan, ContextMethod::kAllToAll), "all_to_all", "moves keys");
}

}  // namespace
}  // namespace tessera
