#include "parallel/comm/parallel_dims.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using Ranks = std::vector<int64_t>;

TEST(ParallelDims, DpShardFillsTheWorld) {
  EXPECT_EQ(resolve({}, 1), (ParallelDims{.dp_shard = 1}));
  EXPECT_EQ(resolve({}, 8), (ParallelDims{.dp_shard = 8}));
  EXPECT_EQ(resolve({.dp_replicate = 2, .tp = 2, .pp = 2}, 16),
            (ParallelDims{.dp_replicate = 2, .dp_shard = 2, .tp = 2, .pp = 2}));
  EXPECT_EQ(resolve({.dp_shard = 4, .cp = 2}, 8), (ParallelDims{.dp_shard = 4, .cp = 2}));
}

TEST(ParallelDims, RefusalsNameTheDegrees) {
  EXPECT_ERROR(resolve({.tp = 0}, 4), "tp is 0", "at least 1");
  EXPECT_ERROR(resolve({.dp_shard = 0}, 4), "dp_shard is 0", "-1");
  EXPECT_ERROR(resolve({.tp = 3}, 4), "tp 3", "= 3", "4 ranks");
  EXPECT_ERROR(resolve({.dp_shard = 2, .tp = 4}, 4),
               "dp_replicate 1 x dp_shard 2 x cp 1 x tp 4 x pp 1 = 8 ranks", "the 4 ranks");
}

TEST(ParallelDims, ExpertsAreSpreadOverRanksOfOtherAxes) {
  // etp = tp: 2 (cp) divides ep, ep divides 8 (dp_shard x cp).
  EXPECT_EQ(resolve({.cp = 2, .tp = 2, .ep = 4, .etp = 2}, 16).dp_shard, 4);
  EXPECT_ERROR(resolve({.cp = 2, .tp = 2, .ep = 3, .etp = 2}, 16), "ep is 3", "multiple of 2 (cp)",
               "divides 8");
  // etp = 1: 4 (cp x tp) divides ep, ep divides 16.
  EXPECT_EQ(resolve({.cp = 2, .tp = 2, .ep = 8}, 16).ep, 8);
  EXPECT_ERROR(resolve({.cp = 2, .tp = 2, .ep = 2}, 16), "ep is 2", "multiple of 4 (cp x tp)",
               "divides 16");
  EXPECT_ERROR(resolve({.tp = 4, .etp = 2}, 8), "etp is 2", "1, or the degree of tp", "4");
}

TEST(ParallelDims, TensorRanksAreNeighboursAndStagesAreFarthest) {
  const ParallelDims dims{.dp_replicate = 1, .dp_shard = 2, .cp = 1, .tp = 2, .pp = 2};
  EXPECT_EQ(dims.world_size(), 8);
  EXPECT_EQ(dims.group_ranks(5, {Axis::kTp}), (Ranks{4, 5}));
  EXPECT_EQ(dims.group_ranks(5, {Axis::kDpShard}), (Ranks{5, 7}));
  EXPECT_EQ(dims.group_ranks(5, {Axis::kPp}), (Ranks{1, 5}));
  EXPECT_EQ(dims.group_ranks(5, {Axis::kDpShard, Axis::kTp}), (Ranks{4, 5, 6, 7}));
  EXPECT_EQ(dims.coordinate(6, Axis::kPp), 1);
  EXPECT_EQ(dims.coordinate(6, Axis::kDpShard), 1);
  EXPECT_EQ(dims.coordinate(6, Axis::kTp), 0);
  EXPECT_EQ(dims.index_in_group(6, {Axis::kPp, Axis::kTp}), 2);
}

TEST(ParallelDims, EveryRankHasItsOwnCoordinates) {
  const ParallelDims dims{.dp_replicate = 2, .dp_shard = 3, .cp = 2, .tp = 2, .pp = 2};
  for (int64_t rank = 0; rank < dims.world_size(); ++rank) {
    int64_t rebuilt = 0;
    for (const Axis axis : kAllAxes) {
      rebuilt = rebuilt * dims.degree(axis) + dims.coordinate(rank, axis);
      EXPECT_EQ(static_cast<int64_t>(dims.group_ranks(rank, {axis}).size()), dims.degree(axis))
          << to_string(axis);
    }
    EXPECT_EQ(rebuilt, rank);
  }
}

}  // namespace
}  // namespace tessera
