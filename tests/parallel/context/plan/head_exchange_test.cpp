#include "parallel/context/plan/head_exchange.h"

#include <gtest/gtest.h>

#include "parallel/context/plan/load_balance.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

TEST(HeadExchangeTest, SplitsHeads) {
  const HeadExchange heads(32, 8, 4);
  EXPECT_EQ(heads.query(3), (TokenRange{24, 32}));
  EXPECT_EQ(heads.kv(3), (TokenRange{6, 8}));
}

TEST(HeadExchangeTest, RepeatsKeyHeadsForMoreRanks) {
  const HeadExchange heads(8, 2, 4);
  EXPECT_EQ(heads.kv_heads_per_rank(), 1);
  EXPECT_EQ(heads.kv(1), (TokenRange{0, 1}));
  EXPECT_EQ(heads.kv(2), (TokenRange{1, 2}));
}

// Every query head finds its key head, h / (H / K), at the same place among the rank's own.
TEST(HeadExchangeTest, QueryHeadsMeetTheirKeyHeads) {
  for (const int64_t num_ranks : {1, 2, 3, 4, 6, 8}) {
    for (const int64_t kv_heads : {1, 2, 3, 4, 6, 8, 12, 24}) {
      if (kv_heads % num_ranks != 0 && num_ranks % kv_heads != 0) continue;
      const HeadExchange heads(24, kv_heads, num_ranks);
      const int64_t group = heads.query_heads_per_rank() / heads.kv_heads_per_rank();
      for (int64_t rank = 0; rank < num_ranks; ++rank) {
        for (int64_t i = 0; i < heads.query_heads_per_rank(); ++i) {
          EXPECT_EQ((heads.query(rank).begin + i) / (24 / kv_heads),
                    heads.kv(rank).begin + i / group)
              << num_ranks << " ranks, " << kv_heads << " key heads, rank " << rank;
        }
      }
    }
  }
}

TEST(HeadExchangeTest, RefusesWithNumbers) {
  EXPECT_ERROR(HeadExchange(6, 2, 4), "query heads: got 6", "multiple of 4 ranks");
  EXPECT_ERROR(HeadExchange(12, 3, 4), "key heads: got 3", "multiple or a divisor of 4 ranks");
  EXPECT_ERROR(HeadExchange(8, 3, 4), "8 query heads, 3 key heads", "multiple of key heads");
}

TEST(HeadExchangeTest, BytesFollowTheSizes) {
  const ShardPlan plan = contiguous_plan(64, 4, 4);
  const HeadExchange heads(8, 2, 4);
  // 48 tokens of others, 2 query heads out and back, 1 key head.
  EXPECT_EQ(
      heads.received_bytes(plan, {.batch = 2, .key_dim = 16, .value_dim = 8, .element_size = 2}),
      2 * 48 * (2 + 1) * 24 * 2);
}

}  // namespace
}  // namespace tessera
