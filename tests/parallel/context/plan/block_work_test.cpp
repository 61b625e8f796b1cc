#include "parallel/context/plan/block_work.h"

#include <gtest/gtest.h>

#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;

TEST(BlockWorkTest, CostsAreLivePairsWeighedByTilesAndLayers) {
  const MaskShape shape{.q_len = 16, .kv_len = 16, .block = {4, 2}};
  const AttentionMasks masks{
      {"global", create_block_mask(causal(), shape)},
      {"local", create_block_mask(causal() & sliding_window({.left = 1}), shape)}};
  const BlockWork both = block_work(masks, 8);
  EXPECT_EQ(both.costs, (std::vector<double>{36 + 15, 64 + 36 + 16}));
  const BlockWork weighed = block_work(
      masks, 8, {.full_pair = 10, .partial_pair = 1, .layers = {{"global", 2}, {"local", 0}}});
  // Queries 0 to 3: 10 pairs in partial tiles; 4 to 7: 16 in full ones, 10 in partial ones.
  EXPECT_EQ(weighed.costs.front(), 2 * (10 * 16 + 20));
  ASSERT_EQ(both.reads.size(), 2U);
  EXPECT_EQ(both.reads[0].of_block, (std::vector<RangeSet>{{{0, 1}}, {{0, 2}}}));
  EXPECT_EQ(weighed.reads[0].weight, 2);
  EXPECT_ERROR(block_work(masks, 8, {.layers = {{"globl", 2}}}), "\"globl\"", "global, local");
  EXPECT_ERROR(block_work(masks, 6), "mask \"global\"", "tiles of 4 x 2", "blocks of 6");
  EXPECT_ERROR(block_work(masks, 12), "16 tokens", "multiple", "12");
  EXPECT_ERROR(block_work({}, 4), "got none");
  const BlockMask wide = create_block_mask(causal(), {.q_len = 8, .kv_len = 16, .block = {4, 4}});
  EXPECT_ERROR(block_work({{"wide", wide}}, 4), "mask \"wide\"", "8 x 16", "8 x 8");
}

// The batch's rows add up; a broadcast mask counts as each of its rows.
TEST(BlockWorkTest, CostsAreMeansOverTheBatch) {
  at::Tensor ids_BT = at::empty({2, 8}, at::kLong);
  ids_BT[0].copy_(ids_of({8}));
  ids_BT[1].copy_(ids_of({4, 4}));
  const BlockMask mask = create_block_mask(causal() & document(ids_BT),
                                           {.batch = 2, .q_len = 8, .kv_len = 8, .block = {4, 4}});
  const BlockWork work = block_work({{"global", mask}}, 4);
  EXPECT_EQ(work.costs, (std::vector<double>{10, (26 + 10) / 2}));
  EXPECT_EQ(work.reads[0].of_block[1], (RangeSet{{0, 2}}));
}

}  // namespace
}  // namespace tessera
