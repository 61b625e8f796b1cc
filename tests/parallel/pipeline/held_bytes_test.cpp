#include "parallel/pipeline/held_bytes.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "parallel/pipeline/schedules/validate_schedule.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

constexpr ScheduleShape kShape{.num_ranks = 4, .num_microbatches = 8};

TEST(HeldBytes, AreThoseOfTheLiveMicrobatches) {
  for (const char* name : {"GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS"}) {
    const Schedule schedule = make_schedule(name, kShape);
    const std::vector<StageBytes> stages(static_cast<size_t>(schedule.num_stages()), {10, 7});
    const std::vector<int64_t> live = peak_live_microbatches(schedule);
    for (int64_t rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(peak_held_bytes(schedule, rank, stages), 10 * live[static_cast<size_t>(rank)])
          << name << " " << rank;
    }
  }
}

TEST(HeldBytes, WhatASplitBackwardPutsOffStaysUntilItsWeightGradients) {
  const Schedule schedule = read_schedule_csv("0F0,0F1,0I0,0I1,0W0,0F2,0W1,0B2\n");
  EXPECT_EQ(peak_held_bytes(schedule, 0, {{10, 7}}), 20);   // after 0F1
  EXPECT_EQ(peak_held_bytes(schedule, 0, {{10, 12}}), 24);  // after 0I1
  EXPECT_EQ(peak_held_bytes(schedule, 0, {{1, 0}}), 2);
  // With {1, 1} a whole microbatch counts until W, as PyTorch's weights hold it: an upper limit.
  for (const char* name : {"InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"}) {
    const Schedule split = make_schedule(name, kShape);
    const auto held = [&](const StageBytes& bytes) {
      return peak_held_bytes(
          split, 0, std::vector<StageBytes>(static_cast<size_t>(split.num_stages()), bytes));
    };
    EXPECT_EQ(held({1, 1}), peak_live_microbatches(split)[0]) << name;
    EXPECT_LE(held({1, 0}), held({1, 1})) << name;
  }
}

TEST(HeldBytes, StagesDiffer) {
  const Schedule schedule = make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 4});
  EXPECT_EQ(peak_held_bytes(schedule, 0, {{3, 0}, {50, 0}}), 6);
  EXPECT_EQ(peak_held_bytes(schedule, 1, {{3, 0}, {50, 0}}), 50);
  EXPECT_ERROR(peak_held_bytes(schedule, 0, {{3, 0}}), "got 1 stages", "the 2 of 1F1B");
}

// Rank 0 receives one gradient at a time; rank 1 receives 0F0 and 0F1 before it starts, and its
// gradients leave one by one, four of them under way.
TEST(HeldBytes, MessagesWaitOrAreUnderWay) {
  const ExecutionPlan two =
      derive_communication(make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 2}));
  EXPECT_EQ(peak_messages(two, 0), 1);
  EXPECT_EQ(peak_messages(two, 1), 2);
  const ExecutionPlan many =
      derive_communication(make_schedule("GPipe", {.num_ranks = 2, .num_microbatches = 20}));
  EXPECT_GE(peak_messages(many, 1), 5);  // gradients under way
  const ExecutionPlan alone =
      derive_communication(make_schedule("1F1B", {.num_ranks = 1, .num_microbatches = 2}));
  EXPECT_EQ(peak_messages(alone, 0), 0);
}

}  // namespace
}  // namespace tessera::pipeline
