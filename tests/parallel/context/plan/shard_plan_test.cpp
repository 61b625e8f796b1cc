#include "parallel/context/plan/shard_plan.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "parallel/context/plan/load_balance.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

std::vector<int64_t> values(const at::Tensor& tensor) {
  const int64_t* data = tensor.const_data_ptr<int64_t>();
  return {data, data + tensor.numel()};
}

using Tokens = std::vector<int64_t>;

// Token by token, as upstream: blocks of one token.
TEST(ContextCases, Case9HeadTailOrders) {
  const ShardPlan two(8, 1, head_tail_lists(8, 2));
  EXPECT_EQ(values(two.token_order()), (Tokens{0, 1, 6, 7, 2, 3, 4, 5}));
  EXPECT_EQ(values(two.inverse_token_order()), (Tokens{0, 1, 4, 5, 6, 7, 2, 3}));
  EXPECT_EQ(values(ShardPlan(8, 1, head_tail_lists(8, 4)).token_order()),
            (Tokens{0, 7, 1, 6, 2, 5, 3, 4}));
  EXPECT_ERROR(head_tail_lists(6, 2), "head_tail: got 6", "multiple of 2 x 2 ranks");
}

TEST(ContextCases, Case10DocumentHeadTailOrders) {
  const ShardPlan plan(16, 1, document_head_tail_lists({4, 8, 4}, 2));
  EXPECT_EQ(values(plan.token_order()),
            (Tokens{0, 3, 4, 5, 10, 11, 12, 15, 1, 2, 6, 7, 8, 9, 13, 14}));
  EXPECT_EQ(values(plan.inverse_token_order()),
            (Tokens{0, 8, 9, 1, 2, 3, 10, 11, 12, 13, 4, 5, 6, 14, 15, 7}));
  EXPECT_EQ(values(ShardPlan(16, 1, document_head_tail_lists({4, 12}, 2)).token_order()),
            (Tokens{0, 3, 4, 5, 6, 13, 14, 15, 1, 2, 7, 8, 9, 10, 11, 12}));
  EXPECT_ERROR(document_head_tail_lists({4, 6}, 2), "document 1", "length of 6", "2 x 2 ranks");
}

TEST(ShardPlanTest, KnowsWhoHoldsABlock) {
  const ShardPlan plan(24, 4, {{5, 0}, {2, 1}, {3, 4}});
  EXPECT_EQ(plan.blocks(0), (Tokens{0, 5}));
  EXPECT_EQ(plan.num_blocks(), 6);
  EXPECT_EQ(plan.blocks_per_rank(), 2);
  EXPECT_EQ(plan.tokens_per_rank(), 8);
  for (int64_t rank = 0; rank < 3; ++rank) {
    for (int64_t slot = 0; slot < 2; ++slot) {
      EXPECT_EQ(plan.owner(plan.blocks(rank)[slot]), rank);
      EXPECT_EQ(plan.slot(plan.blocks(rank)[slot]), slot);
    }
  }
  EXPECT_EQ(plan.to_string(), "3 ranks x 2 blocks of 4 tokens");
  EXPECT_EQ(plan, ShardPlan(24, 4, {{0, 5}, {1, 2}, {3, 4}}));
  EXPECT_FALSE(plan == ShardPlan(24, 4, {{0, 5}, {1, 3}, {2, 4}}));
}

TEST(ShardPlanTest, RefusesWithNumbers) {
  EXPECT_ERROR(ShardPlan(1000, 128, {{0}, {1}}), "got 1000 tokens", "multiple of 256",
               "blocks of 128 tokens x 2 ranks");
  EXPECT_ERROR(ShardPlan(128, 128, {{0}, {}}), "blocks of 128", "at most", "64 tokens",
               "128 over 2 ranks");
  EXPECT_ERROR(ShardPlan(16, 4, {}), "0 ranks");
  EXPECT_ERROR(ShardPlan(16, 4, {{0, 1, 2}, {3}}), "rank 0", "got 3 blocks", "expected 2 of 4");
  EXPECT_ERROR(ShardPlan(16, 4, {{0, 4}, {1, 2}}), "rank 0", "block 4", "0 to 3");
  EXPECT_ERROR(ShardPlan(16, 4, {{0, 1}, {1, 2}}), "rank 1", "block 1", "rank 0 has already");
  const ShardPlan plan(16, 4, {{0, 1}, {2, 3}});
  EXPECT_ERROR(plan.blocks(2), "rank: got 2", "0 to 1");
  EXPECT_ERROR(shard_tokens(at::arange(15), plan, 0, 0), "length 15", "16 tokens");
  EXPECT_ERROR(unshard_tokens(at::arange(8), plan, 0), "length 8", "16 tokens");
  EXPECT_ERROR(shard_tokens(at::arange(16), plan, -1, 0), "rank: got -1");
}

TEST(ShardPlanTest, UnshardIsTheInverse) {
  const ShardPlan plan(24, 4, {{5, 0}, {2, 1}, {3, 4}});
  const at::Tensor whole = at::randint(100, {2, 24, 3});
  std::vector<at::Tensor> parts;
  for (int64_t rank = 0; rank < 3; ++rank) parts.push_back(shard_tokens(whole, plan, rank, 1));
  EXPECT_TRUE(parts[1].equal(whole.narrow(1, 4, 8)));
  EXPECT_TRUE(unshard_tokens(at::cat(parts, 1), plan, 1).equal(whole));
}

TEST(ShardPlanTest, EveryMemberOfABatchIsCutAlike) {
  const ShardPlan plan(16, 4, {{0, 3}, {1, 2}});
  const at::Tensor tokens_BT = at::randint(100, {2, 16});
  const Batch batch{tokens_BT, tokens_BT + 1, tokens_BT + 2, tokens_BT + 3};
  const Batch mine = shard(batch, plan, 0);
  EXPECT_TRUE(
      mine.tokens_BT.equal(at::cat({tokens_BT.narrow(1, 0, 4), tokens_BT.narrow(1, 12, 4)}, 1)));
  EXPECT_TRUE(mine.labels_BT.equal(mine.tokens_BT + 1));
  EXPECT_TRUE(mine.positions_BT.equal(mine.tokens_BT + 2));
  EXPECT_TRUE(mine.document_ids_BT.equal(mine.tokens_BT + 3));
  EXPECT_ERROR(shard(batch.rows(0, 1), ShardPlan(8, 4, {{0}, {1}}), 0), "length 16", "8 tokens");
}

TEST(ShardPlanTest, FeaturesAreCutLikeTokensAndPatchesStayWhole) {
  const ShardPlan plan(16, 4, {{0, 3}, {1, 2}});
  const at::Tensor feature_of_token_BT = at::arange(32).view({2, 16}).remainder(16);
  const Extras extras{.patches_BPC = at::zeros({2, 16, 3}),  // as many slots as tokens
                      .image_ids_BP = at::zeros({2, 16}, at::kLong),
                      .feature_of_token_BT = feature_of_token_BT};
  const at::Tensor any = at::zeros({2, 16}, at::kLong);
  for (int64_t rank = 0; rank < 2; ++rank) {
    const Batch mine = shard(Batch{any, any, any, any, extras}, plan, rank);
    mine.check();
    EXPECT_TRUE(mine.extras.feature_of_token_BT.equal(
        shard_tokens(feature_of_token_BT, plan, rank, /*dim=*/1)));
    EXPECT_TRUE(mine.extras.patches_BPC.is_same(extras.patches_BPC));
    EXPECT_TRUE(mine.extras.image_ids_BP.is_same(extras.image_ids_BP));
  }
  EXPECT_TRUE(shard(Extras(), plan, 0).empty());
}

}  // namespace
}  // namespace tessera
