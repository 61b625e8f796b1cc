#include "parallel/pipeline/schedules/stage_placement.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

using Stages = std::vector<std::vector<int64_t>>;

Stages stages_of_ranks(const StagePlacement& placement) {
  Stages stages;
  for (int64_t rank = 0; rank < placement.num_ranks; ++rank) {
    stages.push_back(placement.stages_of(rank));
  }
  return stages;
}

TEST(StagePlacement, Case24LoopAndV) {
  EXPECT_EQ(stages_of_ranks(loop_placement(2, 2)), (Stages{{0, 2}, {1, 3}}));
  EXPECT_EQ(stages_of_ranks(v_placement(4, 2)), (Stages{{0, 7}, {1, 6}, {2, 5}, {3, 4}}));
}

TEST(StagePlacement, VTurnsAtBothEnds) {
  EXPECT_EQ(stages_of_ranks(v_placement(2, 3)), (Stages{{0, 3, 4}, {1, 2, 5}}));
  EXPECT_EQ(v_placement(3, 1), loop_placement(3, 1));
  EXPECT_EQ(stages_of_ranks(v_placement(1, 2)), (Stages{{0, 1}}));
}

TEST(StagePlacement, RefusesNothing) {
  EXPECT_ERROR(loop_placement(0, 2), "0 ranks with 2 stages");
  EXPECT_ERROR(v_placement(2, 0), "2 ranks with 0 stages");
}

}  // namespace
}  // namespace tessera::pipeline
