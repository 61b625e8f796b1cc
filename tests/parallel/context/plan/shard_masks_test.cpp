#include "parallel/context/plan/shard_masks.h"

#include <gtest/gtest.h>

#include <numeric>

#include "attention/masks/mask_fn.h"
#include "parallel/context/plan/block_work.h"
#include "parallel/context/plan/load_balance.h"
#include "tests/attention/masks/reference_masks.h"
#include "tests/parallel/context/plan/context_rules.h"
#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;
using testing::kContextMethods;
using testing::RandomRules;
using testing::square_mask;
using Blocks = std::vector<int64_t>;

// Tiles of each row of tiles: partial ones, and full ones by their place in upstream's key order,
// in which the ranks' blocks are laid end to end.
struct Row {
  Blocks partial{};
  Blocks full{};
};

std::vector<Row> rows_of(const BlockMask& mask, const ShardPlan& plan) {
  std::vector<Row> rows;
  for (int64_t q_block = 0; q_block < mask.data().num_q_blocks(); ++q_block) {
    Row row;
    for (const BlockRun& run : mask.runs(0, 0, q_block)) {
      for (int64_t block = run.begin; block < run.end; ++block) {
        const int64_t place = plan.owner(block) * plan.blocks_per_rank() + plan.slot(block);
        (run.full() ? row.full : row.partial).push_back(place);
      }
    }
    std::sort(row.full.begin(), row.full.end());
    rows.push_back(row);
  }
  return rows;
}

// {partial, full} counts, upstream's kv_num_blocks and full_kv_num_blocks.
std::pair<Blocks, Blocks> counts_of(const std::vector<Row>& rows) {
  std::pair<Blocks, Blocks> counts;
  for (const Row& row : rows) {
    counts.first.push_back(static_cast<int64_t>(row.partial.size()));
    counts.second.push_back(static_cast<int64_t>(row.full.size()));
  }
  return counts;
}

std::vector<Row> rows_of_rank(const BlockMask& whole, const ShardPlan& plan, int64_t rank) {
  return rows_of(shard(whole, plan, rank, ContextMethod::kAllGather), plan);
}

using Counts = std::pair<Blocks, Blocks>;

TEST(ContextCases, Case12CausalShards) {
  const BlockMask mask = square_mask(causal(), 16, 4);
  const ShardPlan contiguous = contiguous_plan(16, 4, 2);
  EXPECT_EQ(counts_of(rows_of_rank(mask, contiguous, 0)), (Counts{{1, 1}, {0, 1}}));
  EXPECT_EQ(counts_of(rows_of_rank(mask, contiguous, 1)), (Counts{{1, 1}, {2, 3}}));
  const ShardPlan head_tail(16, 4, head_tail_lists(4, 2));
  const std::vector<Row> first = rows_of_rank(mask, head_tail, 0);
  EXPECT_EQ(counts_of(first), (Counts{{1, 1}, {0, 3}}));
  EXPECT_EQ(first[1].full, (Blocks{0, 2, 3}));
  const std::vector<Row> second = rows_of_rank(mask, head_tail, 1);
  EXPECT_EQ(counts_of(second), (Counts{{1, 1}, {1, 2}}));
  EXPECT_EQ(second[1].full, (Blocks{0, 2}));
}

// Upstream's head-tail cuts tokens, and blocks longer than its chunks straddle them: no tile is
// skipped. Plans here are made of blocks and refuse that.
TEST(ContextCases, Case12ChunksShorterThanABlock) {
  const ShardPlan tokens(16, 1, head_tail_lists(16, 2));
  const at::Tensor order_T = tokens.token_order();
  const int64_t* order = order_T.const_data_ptr<int64_t>();
  for (int64_t rank = 0; rank < 2; ++rank) {
    const auto allows = [=](int64_t, int64_t, int64_t q, int64_t kv) {
      return order[kv] <= order[rank * 8 + q];
    };
    const BlockMask mask = create_block_mask(mask_fn("permuted_causal", {{"rank", rank}}, allows),
                                             {.q_len = 8, .kv_len = 16, .block = {8, 8}});
    EXPECT_EQ(mask.data().runs.size(), 2U);
    for (const BlockRun& run : mask.data().runs) EXPECT_FALSE(run.full());
  }
  EXPECT_ERROR(head_tail_lists(16 / 8, 2), "head_tail: got 2", "2 x 2 ranks");
  EXPECT_ERROR(shard(square_mask(causal(), 16, 8), tokens, 0, ContextMethod::kAllGather),
               "tiles of 8 x 8", "blocks of 1 tokens");
}

TEST(ContextCases, Case13RoundRobinDocuments) {
  const BlockMask mask = square_mask(causal() & document(ids_of({16, 32, 16})), 64, 4);
  const BlockWork work = block_work({{"global", mask}}, 4);
  const ShardPlan plan = balance(LoadBalancer::kRoundRobin, work, 2);
  EXPECT_EQ(plan.blocks(), (BlockLists{{2, 3, 5, 6, 8, 11, 12, 13}, {0, 1, 4, 7, 9, 10, 14, 15}}));
  const std::vector<Row> first = rows_of_rank(mask, plan, 0);
  EXPECT_EQ(counts_of(first), (Counts{Blocks(8, 1), {2, 3, 1, 2, 4, 7, 0, 1}}));
  EXPECT_EQ(first[0].partial, (Blocks{0}));
  EXPECT_EQ(first[0].full, (Blocks{8, 9}));
  EXPECT_EQ(first[5].full, (Blocks{2, 3, 4, 10, 11, 12, 13}));
  const std::vector<Row> second = rows_of_rank(mask, plan, 1);
  EXPECT_EQ(counts_of(second), (Counts{Blocks(8, 1), {0, 1, 0, 3, 5, 6, 2, 3}}));
}

// Any rule, plan, tile size and method.
TEST(ShardMasksTest, BothRoadsLeadToEqualMasks) {
  constexpr int64_t kRanks[] = {1, 2, 3, 4};
  constexpr int64_t kTiles[] = {1, 2, 3, 4, 6};
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    constexpr int64_t kBlock = 12;
    RandomRules random(seed, kBlock * 12);
    const int64_t num_ranks = kRanks[random.uniform(0, 3)];
    const int64_t seq_len = kBlock * num_ranks * random.uniform(1, 3);
    const MaskMod rule = random.rule(2, static_cast<int>(seed % 4)).rule;
    const MaskShape shape{.batch = 2,
                          .heads = random.uniform(1, 2),
                          .q_len = seq_len,
                          .kv_len = seq_len,
                          .block = {kTiles[random.uniform(0, 4)], kTiles[random.uniform(0, 4)]}};
    const BlockMask whole = create_block_mask(rule, shape);
    const ShardPlan plan =
        balance(seed % 2 == 0 ? LoadBalancer::kMinHeap : LoadBalancer::kRoundRobin,
                block_work({{"mask", whole}}, kBlock), num_ranks);
    const BlockLists needed = needed_kv_by_rank(whole, plan);
    for (const ContextMethod method : kContextMethods) {
      for (int64_t rank = 0; rank < num_ranks; ++rank) {
        const auto gather = [&](const Blocks& mine) {
          EXPECT_EQ(mine, needed[rank]);
          return needed;
        };
        const CreateMaskFn create = sharding_create_mask_fn(plan, rank, method, gather);
        ASSERT_EQ(create(rule, shape), shard(whole, plan, rank, method));
      }
    }
  }
}

TEST(ShardMasksTest, StepsHoldEveryPairOfTheRowsOnce) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 96);
    const BlockMask whole = square_mask(random.rule(1, 2).rule, 96, 4);
    const ShardPlan plan = min_heap_plan(block_work({{"mask", whole}}, 8), 4);
    for (const ContextMethod method : kContextMethods) {
      if (method == ContextMethod::kAllToAll) continue;
      int64_t pairs = 0;
      for (int64_t rank = 0; rank < 4; ++rank) {
        const BlockMask mine = shard(whole, plan, rank, method);
        for (const ContextStep& step : context_shard(mine).steps()) {
          EXPECT_EQ(step.mask.has_value(), !step.exchange.kv_blocks.empty());
          if (!step.mask) continue;
          const auto num_keys = static_cast<int64_t>(step.exchange.kv_blocks.size()) * 8;
          EXPECT_EQ(step.mask->shape().kv_len, num_keys);
          EXPECT_EQ(step.mask->plan(), nullptr);
          pairs += step.mask->num_pairs();
        }
      }
      EXPECT_EQ(pairs, whole.num_pairs()) << to_string(method);
    }
  }
}

TEST(ShardMasksTest, EveryMaskOfAModelIsShardedByOnePlan) {
  const AttentionMasks masks{
      {"global", square_mask(causal(), 32, 4)},
      {"sliding", square_mask(causal() & sliding_window({.left = 3}), 32, 4)}};
  const ShardPlan plan = contiguous_plan(32, 8, 2);
  const AttentionMasks mine = shard(masks, plan, 1, ContextMethod::kNeededKv);
  EXPECT_EQ(mine.names(), masks.names());
  EXPECT_EQ(context_shard(mine.at("global")).plan(), plan);
  EXPECT_EQ(context_shard(mine.at("global")).steps()[0].exchange.receive[0], (Blocks{0, 1}));
  EXPECT_EQ(context_shard(mine.at("sliding")).steps()[0].exchange.receive[0], (Blocks{1}));
  EXPECT_EQ(mine.at("sliding").plan()->to_string(),
            "rank 1 of 2 ranks x 2 blocks of 8 tokens, needed_kv");
  EXPECT_FALSE(mine == shard(masks, plan, 0, ContextMethod::kNeededKv));
  EXPECT_FALSE(mine.at("global") == shard(masks.at("global"), plan, 1, ContextMethod::kAllGather));
}

// A mask stays whole because of its shape's `sequence`, not of its length, which is the rows' here.
TEST(ShardMasksTest, MasksOfAModelsOwnSequenceStayWhole) {
  const MaskShape shape{.q_len = 32, .kv_len = 32, .block = {4, 4}, .sequence = MaskSequence::kOwn};
  const BlockMask patches = create_block_mask(full(), shape);
  const ShardPlan plan = contiguous_plan(32, 8, 2);
  const AttentionMasks masks{{"encoder", patches}, {"global", square_mask(causal(), 32, 4)}};
  const AttentionMasks mine = shard(masks, plan, 1, ContextMethod::kRing);
  EXPECT_EQ(mine.names(), masks.names());
  EXPECT_EQ(mine.at("encoder"), patches);
  EXPECT_NE(mine.at("global").plan(), nullptr);
  const CreateMaskFn create = sharding_create_mask_fn(plan, 1, ContextMethod::kAllGather, nullptr);
  EXPECT_EQ(create(full(), shape), patches);
  EXPECT_ERROR(shard(patches, plan, 1, ContextMethod::kRing), "sequence of the model's own",
               "expected one over the rows' tokens");
  EXPECT_ERROR(block_work(masks, 8), "mask \"encoder\"", "sequence of the model's own");
  EXPECT_EQ(block_work(masks.of_rows(), 8).num_blocks(), 4);
}

TEST(ShardMasksTest, RefusesWhatDoesNotFit) {
  const ShardPlan plan = contiguous_plan(32, 8, 2);
  const AttentionMasks masks{{"encoder", square_mask(full(), 24, 4)}};
  EXPECT_ERROR(shard(masks, plan, 0, ContextMethod::kRing), "mask \"encoder\"", "24 x 24",
               "32 x 32");
  const BlockMask mask = square_mask(causal(), 32, 4);
  EXPECT_ERROR(shard(mask, plan, 2, ContextMethod::kRing), "rank", "got 2", "0 to 1");
  const BlockMask mine = shard(mask, plan, 0, ContextMethod::kRing);
  EXPECT_ERROR(shard(mine, plan, 0, ContextMethod::kRing), "with a plan", "rank 0 of 2 ranks");
  EXPECT_ERROR(shard(square_mask(causal(), 32, 16), plan, 0, ContextMethod::kRing),
               "tiles of 16 x 16", "blocks of 8");
  EXPECT_ERROR(context_shard(mask), "without a plan");
  EXPECT_ERROR(sharding_create_mask_fn(plan, 0, ContextMethod::kRing, nullptr), "gather", "ring");
  const CreateMaskFn create = sharding_create_mask_fn(plan, 0, ContextMethod::kAllGather, nullptr);
  EXPECT_ERROR(create(causal(), {.q_len = 24, .kv_len = 24, .block = {4, 4}}),
               "create_mask_fn(causal)", "24 x 24", "32 x 32");
}

TEST(ShardMasksTest, MethodNamesAreReadAndWritten) {
  for (const ContextMethod method : kContextMethods)
    EXPECT_EQ(context_method(to_string(method)), method);
  EXPECT_ERROR(context_method("ulysses"), "\"ulysses\"", "all_gather, ring, all_to_all, needed_kv");
}

}  // namespace
}  // namespace tessera
