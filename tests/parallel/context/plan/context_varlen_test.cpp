#include "parallel/context/plan/context_varlen.h"

#include <gtest/gtest.h>

#include <numeric>

#include "parallel/context/plan/load_balance.h"
#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;
using testing::packed_lengths;
using testing::square_mask;
using Lengths = std::vector<int32_t>;
using Places = std::vector<int64_t>;

Varlen causal_documents(Lengths cu_seqlens) {
  return {.cu_seqlens = std::move(cu_seqlens), .window = {.right = 0}};
}

Places range(int64_t begin, int64_t end) {
  Places places(end - begin);
  std::iota(places.begin(), places.end(), begin);
  return places;
}

TEST(ContextCases, Case21VarlenShards) {
  const ShardPlan plan = contiguous_plan(20, 5, 4);
  const Varlen one_row = causal_documents({0, 7, 13, 20});
  EXPECT_EQ(shard_varlen(one_row, 1, plan, 2),
            (VarlenShard{{0, 3, 5}, {0, 6, 8}, 3, 6, range(7, 15)}));
  EXPECT_EQ(shard_varlen(one_row, 1, plan, 0), (VarlenShard{{0, 5}, {0, 5}, 5, 5, range(0, 5)}));

  Places both = range(7, 15);
  for (const int64_t place : range(27, 35)) both.push_back(place);
  EXPECT_EQ(shard_varlen(causal_documents({0, 7, 13, 20, 27, 33, 40}), 2, plan, 2),
            (VarlenShard{{0, 3, 5, 8, 10}, {0, 6, 8, 14, 16}, 3, 6, both}));

  const ShardPlan head_tail(8, 1, head_tail_lists(8, 2));
  EXPECT_EQ(shard_varlen(causal_documents({0, 3, 8}), 1, head_tail, 0),
            (VarlenShard{{0, 2, 4}, {0, 2, 7}, 2, 5, {0, 1, 5, 6, 7, 2, 3}}));
}

// The pairs of the runs, their masks aligned right as the kernels do, are the mask's own rows.
TEST(ContextVarlenTest, HoldsThePairsOfTheMask) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const at::Tensor ids_T = ids_of(packed_lengths(seed, 192));
    MaskMod rule = causal() & document(ids_T);
    if (seed % 2 == 1) rule = rule & sliding_window({.left = 9});
    const BlockMask mask = square_mask(rule, 192, 8);
    const std::optional<Varlen> varlen = to_varlen(mask, 1);
    ASSERT_TRUE(varlen.has_value());
    if (varlen->window.right != 0) continue;  // every document is one token
    const ShardPlan plan = min_heap_plan(block_work({{"global", mask}}, 8), seed % 3 == 0 ? 2 : 4);
    const at::Tensor order_T = plan.token_order();
    const int64_t* order = order_T.const_data_ptr<int64_t>();
    int64_t pairs = 0;
    for (int64_t rank = 0; rank < plan.num_ranks(); ++rank) {
      const VarlenShard shard = shard_varlen(*varlen, 1, plan, rank);
      ASSERT_EQ(shard.cu_seqlens_q.back(), plan.tokens_per_rank());
      for (size_t run = 0; run + 1 < shard.cu_seqlens_q.size(); ++run) {
        const int32_t end_q = shard.cu_seqlens_q[run + 1];
        const int32_t end_k = shard.cu_seqlens_k[run + 1];
        for (int32_t q = shard.cu_seqlens_q[run]; q < end_q; ++q) {
          const int64_t token = order[rank * plan.tokens_per_rank() + q];
          const int64_t last = end_k - (end_q - q);  // the key that is the query's own token
          const int64_t first = std::max<int64_t>(
              shard.cu_seqlens_k[run], varlen->window.left ? last - *varlen->window.left : 0);
          for (int64_t k = first; k <= last; ++k, ++pairs) {
            ASSERT_TRUE(mask.allows(0, 0, token, order[shard.key_places[k]]));
          }
        }
      }
    }
    EXPECT_EQ(pairs, mask.num_pairs());
  }
}

TEST(ContextVarlenTest, RefusesWhatItCannotSay) {
  const ShardPlan plan = contiguous_plan(20, 5, 4);
  EXPECT_ERROR(shard_varlen({.cu_seqlens = {0, 20}}, 1, plan, 0), "window", "no limit", "causal");
  EXPECT_ERROR(shard_varlen(causal_documents({0, 19}), 1, plan, 0), "cu_seqlens", "1 rows x 20");
  EXPECT_ERROR(shard_varlen(causal_documents({0, 15, 40}), 2, plan, 0), "across the end of row 0",
               "multiples of 20");
}

}  // namespace
}  // namespace tessera
