// The planning of FSDP: layouts of shards, order of use, buckets.
#include "parallel/fsdp/shard_layout.h"

#include <gtest/gtest.h>

#include "parallel/fsdp/gradient_buckets.h"
#include "parallel/fsdp/use_order.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

TEST(ShardLayout, RowsAreCutEvenlyAndTheLastRankMayHaveFewerOrNone) {
  const ShardLayout layout = shard_layout({{5, 4}, {1, 2}, {}}, 2);
  ASSERT_EQ(layout.parameters.size(), 3u);
  EXPECT_EQ(layout.parameters[0].rows_per_rank, 3);
  EXPECT_EQ(layout.parameters[0].rows_of(0), (IndexRange{0, 3}));
  EXPECT_EQ(layout.parameters[0].rows_of(1), (IndexRange{3, 5}));
  EXPECT_EQ(layout.parameters[1].rows_of(1).size(), 0);
  EXPECT_EQ(layout.parameters[2].num_rows, 1);  // a scalar
  EXPECT_EQ(layout.parameters[2].rows_of(0), (IndexRange{0, 1}));
}

TEST(ShardLayout, RowsOfAllRanksCoverEachParameterOnce) {
  for (int64_t rows = 1; rows <= 17; ++rows) {
    for (int64_t ranks = 1; ranks <= 8; ++ranks) {
      const ShardLayout layout = shard_layout({{rows, 3}}, ranks);
      int64_t next = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const IndexRange range = layout.parameters[0].rows_of(rank);
        EXPECT_EQ(range.begin, std::min(next, rows));
        next = range.end;
      }
      EXPECT_EQ(next, rows);
    }
  }
}

TEST(ShardLayout, PartsStartAlignedAndDoNotOverlap) {
  const ShardLayout layout = shard_layout({{5, 4}, {33}, {7, 7}}, 4);
  int64_t shard_end = 0, full_end = 0;
  for (const ParameterShard& place : layout.parameters) {
    EXPECT_EQ(place.shard_offset % 32, 0);
    EXPECT_EQ(place.full_offset % 32, 0);
    EXPECT_GE(place.shard_offset, shard_end);
    EXPECT_GE(place.full_offset, full_end);
    shard_end = place.shard_offset + place.shard_numel();
    full_end = place.full_offset + 4 * place.shard_numel();
  }
  EXPECT_LE(shard_end, layout.shard_numel);
  EXPECT_LE(full_end, layout.full_numel);
}

TEST(ShardLayout, WithOneRankTheShardIsTheWhole) {
  const ShardLayout layout = shard_layout({{5, 4}, {33}}, 1);
  EXPECT_EQ(layout.shard_numel, layout.full_numel);
  for (const ParameterShard& place : layout.parameters) {
    EXPECT_EQ(place.shard_offset, place.full_offset);
    EXPECT_EQ(place.rows_per_rank, place.num_rows);
  }
  EXPECT_ERROR(shard_layout({{5}}, 0), "num_ranks is 0");
}

TEST(UseOrder, LearnsASequenceWithAUnitThatIsUsedTwice) {
  // Unit 0 is embedding and head: 0 1 2 0 forward, 0 2 1 0 backward.
  UseOrder order;
  const auto pass = [&](Pass direction, const std::vector<int64_t>& units) {
    std::vector<int64_t> predicted;
    for (const int64_t unit : units) {
      const std::vector<int64_t> next = order.use(direction, unit, 1);
      predicted.push_back(next.empty() ? -1 : next[0]);
    }
    return predicted;
  };
  const std::vector<int64_t> unknown = {-1, -1, -1, -1};
  EXPECT_EQ(pass(Pass::kForward, {0, 1, 2, 0}), unknown);
  EXPECT_EQ(pass(Pass::kBackward, {0, 2, 1, 0}), unknown);
  // Nothing is known beyond the end of a pass.
  EXPECT_EQ(pass(Pass::kForward, {0, 1, 2, 0}), (std::vector<int64_t>{1, 2, 0, -1}));
  EXPECT_EQ(pass(Pass::kBackward, {0, 2, 1, 0}), (std::vector<int64_t>{2, 1, 0, -1}));
}

TEST(UseOrder, LooksSeveralUnitsAheadButNotBeyondThePass) {
  UseOrder order;
  const std::vector<int64_t> units = {0, 1, 2, 0};
  for (const int64_t unit : units) EXPECT_TRUE(order.use(Pass::kForward, unit, 2).empty());
  order.end_pass();
  using Units = std::vector<int64_t>;
  EXPECT_EQ(order.use(Pass::kForward, 0, 2), (Units{1, 2}));
  EXPECT_EQ(order.use(Pass::kForward, 1, 2), (Units{2, 0}));
  EXPECT_EQ(order.use(Pass::kForward, 2, 2), (Units{0}));
  EXPECT_EQ(order.use(Pass::kForward, 0, 2), (Units{}));
}

TEST(GradientBuckets, AreFilledFromTheEndUpToTheLimit) {
  using Ranges = std::vector<UnitRange>;
  EXPECT_EQ(plan_buckets({40, 10, 10, 40}, 50), (Ranges{{2, 4}, {0, 2}}));
  EXPECT_EQ(plan_buckets({10, 10, 10}, 100), (Ranges{{0, 3}}));
  EXPECT_EQ(plan_buckets({10, 90, 10}, 50), (Ranges{{2, 3}, {1, 2}, {0, 1}}));  // one is larger
  EXPECT_TRUE(plan_buckets({}, 50).empty());
}

}  // namespace
}  // namespace tessera
