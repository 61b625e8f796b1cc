#include "parallel/context/plan/kv_exchange.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "parallel/context/plan/load_balance.h"
#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;
using testing::packed_lengths;
using testing::square_mask;
using Blocks = std::vector<int64_t>;

ShardPlan random_plan(uint32_t seed, int64_t num_blocks, int64_t block_size, int64_t num_ranks) {
  Blocks order(num_blocks);
  for (int64_t block = 0; block < num_blocks; ++block) order[block] = block;
  std::mt19937 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  BlockLists lists(num_ranks);
  for (int64_t i = 0; i < num_blocks; ++i) lists[i % num_ranks].push_back(order[i]);
  return {num_blocks * block_size, block_size, lists};
}

// Causal documents of 2 and 2 blocks, ranks {0, 3} and {1, 2}.
class SmallExchangeTest : public ::testing::Test {
 protected:
  ShardPlan plan_{16, 4, {{0, 3}, {1, 2}}};
  BlockMask mask_ = square_mask(causal() & document(ids_of({8, 8})), 16, 4);
  BlockLists needed_ = needed_kv_by_rank(mask_, plan_);
};

TEST_F(SmallExchangeTest, MovesTheBlocksThatAreTouched) {
  EXPECT_EQ(needed_, (BlockLists{{0, 2, 3}, {0, 1, 2}}));
  EXPECT_EQ(num_moved_blocks(plan_, needed_), 2);
  const KvExchange first = needed_kv_exchange(plan_, 0, needed_);
  EXPECT_EQ(first.send, (BlockLists{{}, {0}}));
  EXPECT_EQ(first.receive, (BlockLists{{}, {2}}));
  EXPECT_EQ(first.kv_blocks, (Blocks{0, 2, 3}));
  EXPECT_EQ(first.places, (Blocks{0, 2, 1}));  // own blocks 0 and 3, then what came
  EXPECT_EQ(first.num_sent(), 1);
  EXPECT_EQ(first.num_received(), 1);
}

TEST_F(SmallExchangeTest, TileSizesMayDivideThePlansBlocks) {
  const BlockMask fine = create_block_mask(causal() & document(ids_of({8, 8})),
                                           {.q_len = 16, .kv_len = 16, .block = {2, 1}});
  EXPECT_EQ(needed_kv_by_rank(fine, plan_), needed_);
  EXPECT_EQ(needed_kv_blocks(fine.select_q_blocks({0, 1, 6, 7}), plan_), needed_[0]);
}

TEST_F(SmallExchangeTest, RefusesWhatDoesNotFit) {
  EXPECT_ERROR(needed_kv_by_rank(square_mask(causal(), 8, 4), plan_), "8 x 8", "16 x 16");
  EXPECT_ERROR(needed_kv_by_rank(square_mask(causal(), 16, 3), plan_), "3 x 3", "blocks of 4");
  EXPECT_ERROR(needed_kv_blocks(mask_, plan_), "16 x 16", "8 x 16", "2 ranks x 2 blocks");
  EXPECT_ERROR(needed_kv_exchange(plan_, 2, needed_), "rank: got 2", "0 to 1");
  EXPECT_ERROR(needed_kv_exchange(plan_, 0, {{0}}), "got 1 lists", "expected 2");
  EXPECT_ERROR(needed_kv_exchange(plan_, 0, {{0}, {4}}), "block 4", "0 to 3");
  EXPECT_ERROR(ring_exchange(plan_, 0, 2, needed_), "step: got 2", "0 to 1");
}

TEST_F(SmallExchangeTest, BytesFollowTheSizes) {
  EXPECT_EQ(kv_bytes(3, plan_,
                     {.batch = 2, .kv_heads = 5, .key_dim = 16, .value_dim = 8, .element_size = 2}),
            3 * 4 * 2 * 5 * 24 * 2);
}

// Checks the facts on which the exchanges of all ranks must agree, for any plan.
void expect_consistent(const std::vector<KvExchange>& exchanges, const ShardPlan& plan) {
  const auto num_ranks = static_cast<int64_t>(exchanges.size());
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    const KvExchange& mine = exchanges[rank];
    EXPECT_TRUE(mine.send[rank].empty());
    EXPECT_TRUE(mine.receive[rank].empty());
    Blocks at_hand = plan.blocks(rank);
    for (int64_t peer = 0; peer < num_ranks; ++peer) {
      EXPECT_EQ(mine.receive[peer], exchanges[peer].send[rank]);
      for (const int64_t block : mine.receive[peer]) EXPECT_EQ(plan.owner(block), peer);
      at_hand.insert(at_hand.end(), mine.receive[peer].begin(), mine.receive[peer].end());
    }
    EXPECT_TRUE(std::is_sorted(mine.kv_blocks.begin(), mine.kv_blocks.end()));
    ASSERT_EQ(mine.places.size(), mine.kv_blocks.size());
    for (size_t i = 0; i < mine.places.size(); ++i) {
      EXPECT_EQ(at_hand.at(mine.places[i]), mine.kv_blocks[i]);
    }
  }
}

TEST(KvExchangeTest, RanksAgreeAndRowsFindTheirKeys) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const ShardPlan plan = random_plan(seed, 24, 8, seed % 2 == 0 ? 4 : 3);
    const int64_t num_ranks = plan.num_ranks();
    const BlockMask mask =
        square_mask(causal() & document(ids_of(packed_lengths(seed, 192))), 192, 8);
    const BlockLists needed = needed_kv_by_rank(mask, plan);
    std::vector<KvExchange> exchanges;
    std::vector<KvExchange> gathers;
    int64_t received = 0;
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      exchanges.push_back(needed_kv_exchange(plan, rank, needed));
      gathers.push_back(all_gather_exchange(plan, rank));
      received += exchanges.back().num_received();
      EXPECT_EQ(needed_kv_blocks(mask.select_q_blocks(plan.blocks(rank)), plan), needed[rank]);
      std::set<int64_t> at_hand(exchanges[rank].kv_blocks.begin(), exchanges[rank].kv_blocks.end());
      for (const int64_t block : needed[rank]) EXPECT_TRUE(at_hand.contains(block));
      EXPECT_EQ(gathers[rank].num_received(), plan.num_blocks() - plan.blocks_per_rank());
    }
    EXPECT_EQ(received, num_moved_blocks(plan, needed));
    expect_consistent(exchanges, plan);
    expect_consistent(gathers, plan);
  }
}

TEST(KvExchangeTest, RingStepsAreKnownToBothSides) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const ShardPlan plan = random_plan(seed, 24, 8, 4);
    const BlockMask mask =
        square_mask(causal() & document(ids_of(packed_lengths(seed, 192))), 192, 8);
    const BlockLists needed = needed_kv_by_rank(mask, plan);
    std::vector<std::set<int64_t>> seen(4);
    for (int64_t step = 0; step < 4; ++step) {
      std::vector<KvExchange> exchanges;
      for (int64_t rank = 0; rank < 4; ++rank) {
        exchanges.push_back(ring_exchange(plan, rank, step, needed));
        seen[rank].insert(exchanges[rank].kv_blocks.begin(), exchanges[rank].kv_blocks.end());
        EXPECT_TRUE(step > 0 || exchanges[rank].num_sent() == 0);
      }
      expect_consistent(exchanges, plan);
    }
    for (int64_t rank = 0; rank < 4; ++rank) {
      for (const int64_t block : needed[rank]) EXPECT_TRUE(seen[rank].contains(block));
    }
  }
}

// Rank 1's document ends before rank 2's begins: nothing passes between them.
TEST(KvExchangeTest, EmptyRingStepsSendNothing) {
  const ShardPlan plan = contiguous_plan(16, 4, 4);
  const BlockMask mask = square_mask(causal() & document(ids_of({8, 8})), 16, 4);
  const BlockLists needed = needed_kv_by_rank(mask, plan);
  EXPECT_EQ(ring_exchange(plan, 1, 1, needed).receive[0], (Blocks{0}));
  EXPECT_EQ(ring_exchange(plan, 1, 1, needed).num_sent(), 0);
  const KvExchange second = ring_exchange(plan, 2, 1, needed);
  EXPECT_EQ(second.num_received(), 0);
  EXPECT_TRUE(second.kv_blocks.empty());
  EXPECT_EQ(second.send[3], (Blocks{2}));
}

TEST(KvExchangeTest, ARankWithoutKeysKeepsItsOwn) {
  const ShardPlan plan = contiguous_plan(16, 4, 4);
  const BlockLists needed = needed_kv_by_rank(square_mask(none(), 16, 4), plan);
  EXPECT_EQ(needed, BlockLists(4));
  EXPECT_EQ(needed_kv_exchange(plan, 1, needed).kv_blocks, (Blocks{1}));
  EXPECT_TRUE(ring_exchange(plan, 1, 0, needed).kv_blocks.empty());
}

}  // namespace
}  // namespace tessera
