#include "parallel/pipeline/schedules/validate_schedule.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

using Peaks = std::vector<int64_t>;

void validate_csv(const char* text) { validate_schedule(read_schedule_csv(text)); }

TEST(ValidateSchedule, NamedSchedulesRunForEveryShapeThatTheyHave) {
  int64_t num_valid = 0;
  for (const ScheduleTraits& traits : all_schedule_traits()) {
    for (int64_t num_ranks = 1; num_ranks <= 6; ++num_ranks) {
      for (int64_t num_microbatches = 1; num_microbatches <= 3 * num_ranks; ++num_microbatches) {
        for (int64_t local = 1; local <= 3; ++local) {
          std::optional<Schedule> schedule;
          try {
            schedule = make_schedule(traits.name, {num_ranks, num_microbatches, local});
          } catch (const c10::Error&) {
            continue;
          }
          EXPECT_NO_THROW(validate_schedule(*schedule)) << write_schedule_csv(*schedule);
          ++num_valid;
        }
      }
    }
  }
  EXPECT_GT(num_valid, 700);
}

TEST(ValidateSchedule, OrderWithinARank) {
  validate_csv("0F0,0I0,0W0\n1F0,1B0\n");
  EXPECT_ERROR(validate_csv("0F0,0B0\n1B0,1F0\n"), "rank 1, position 0 (1B0)",
               "comes before its forward");
  EXPECT_ERROR(validate_csv("0F0,0F0,0B0\n1F0,1B0\n"), "rank 0, position 1 (0F0)", "twice");
  EXPECT_ERROR(validate_csv("0F0,0W0,0I0\n1F0,1B0\n"), "rank 0, position 1 (0W0)",
               "before the backward of the input");
  EXPECT_ERROR(validate_csv("0F0,0B0,0I0\n1F0,1B0\n"), "(0I0)", "second backward");
  EXPECT_ERROR(validate_csv("0F0,0B0,0W0\n1F0,1B0\n"), "(0W0)", "there already");
  EXPECT_ERROR(validate_csv("0F0,0I0,0W0,0W0\n1F0,1B0\n"), "position 3 (0W0)", "there already");
}

TEST(ValidateSchedule, EverythingIsThere) {
  EXPECT_ERROR(validate_csv("0F0,0B0,0F1,0B1\n1F0,1B0\n"), "rank 1", "stage 1 has no forward",
               "microbatch 1");
  EXPECT_ERROR(validate_csv("0F0,0F1,0B1\n1F0,1F1,1B0,1B1\n"), "rank 0", "no backward",
               "microbatch 0");
  EXPECT_ERROR(validate_csv("0F0,0B0\n1F0,1I0\n"), "rank 1", "no weight backward (W)");
}

TEST(ValidateSchedule, StagesStayOnTheirRank) {
  EXPECT_ERROR(validate_csv("0F0,0B0,2F0\n1F0,1B0,2B0\n"), "rank 1, position 2 (2B0)",
               "stage 2 belongs to rank 0");
  Schedule schedule = make_schedule("1F1B", {2, 2});
  std::swap(schedule.ranks[0], schedule.ranks[1]);
  EXPECT_ERROR(validate_schedule(schedule), "rank 0, position 0 (1F0)", "belongs to rank 1");
}

TEST(ValidateSchedule, DeadlocksShowWhoWaitsForWhat) {
  // Rank 0 wants the gradient of microbatch 0 before it sends microbatch 1, rank 1 both inputs
  // first.
  EXPECT_ERROR(validate_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"), "deadlock",
               "rank 0, position 1 (0B0) waits for the input gradient of stage 1, microbatch 0",
               "rank 1, position 1 (1F1) waits for the output of stage 0, microbatch 1");
  // Orders that cross between ranks.
  EXPECT_ERROR(validate_csv("2F0,0F0,0B0,2B0\n1F0,1B0\n"), "deadlock", "rank 0, position 0 (2F0)");
}

TEST(ValidateSchedule, OverlappedPairsStartTogether) {
  validate_csv("0F0,1F0,(0F1;1B0)OVERLAP_F_B,0B0,1F1,1B1,0B1\n");
  EXPECT_ERROR(validate_csv("0F0,(1F0;1B0)OVERLAP_F_B,0B0\n"), "position 1 (1F0)",
               "overlaps its own backward");
  EXPECT_ERROR(validate_csv("0F0,(1F0;0B0)OVERLAP_F_B,1B0\n"), "deadlock", "position 1 (1F0)");
  EXPECT_ERROR(validate_csv("0F0,0I0,(0F1;0W0)OVERLAP_F_B,0B1\n"), "position 2 (0F1)",
               "a forward and then a backward");
  EXPECT_ERROR(validate_csv("0F0,0F1,(0B0;0B1)OVERLAP_F_B\n"), "position 2 (0B0)",
               "a forward and then a backward");
  Schedule schedule = make_schedule("GPipe", {1, 2});
  schedule.ranks[0].back().overlaps_next = true;
  EXPECT_ERROR(validate_schedule(schedule), "position 3 (0B1)", "a forward and then a backward");
}

TEST(ValidateSchedule, ActionsAreComputationInRange) {
  const auto with = [](const Action& action) {
    Schedule schedule = make_schedule("GPipe", {2, 2});
    schedule.ranks[1].insert(schedule.ranks[1].begin(), action);
    validate_schedule(schedule);
  };
  EXPECT_ERROR(with({ActionKind::kReceiveForward, 1, 0}), "position 0 (1RECV_F0)", "derived");
  EXPECT_ERROR(with({ActionKind::kForward, 2, 0}), "(2F0)", "expected stages 0 to 1");
  EXPECT_ERROR(with({ActionKind::kForward, 1, 2}), "(1F2)", "expected microbatches 0 to 1");
  EXPECT_ERROR(with({ActionKind::kForward, -1, 0}), "expected stages 0 to 1");
}

TEST(ValidateSchedule, ShapesAreChecked) {
  Schedule schedule = make_schedule("GPipe", {2, 2});
  schedule.ranks.pop_back();
  EXPECT_ERROR(validate_schedule(schedule), "1 ranks, expected 2");
  EXPECT_ERROR(validate_schedule({.name = "none"}), "0 ranks and 0 microbatches");
  schedule = make_schedule("GPipe", {2, 2});
  schedule.placement.rank_of_stage = {0, 0};
  EXPECT_ERROR(validate_schedule(schedule), "rank 1 has no stage");
  schedule.placement.rank_of_stage = {0, 1, 2};
  EXPECT_ERROR(validate_schedule(schedule), "a stage is on rank 2");
}

// Published: M for GPipe, P - r for 1F1B; Narayanan et al. 2021, section 2.2, for the interleaved.
TEST(ValidateSchedule, PeakLiveMicrobatches) {
  const auto peaks = [](const char* name) {
    return peak_live_microbatches(make_schedule(name, {.num_ranks = 4, .num_microbatches = 8}));
  };
  EXPECT_EQ(peaks("GPipe"), (Peaks{8, 8, 8, 8}));
  EXPECT_EQ(peaks("1F1B"), (Peaks{4, 3, 2, 1}));
  EXPECT_EQ(peaks("Interleaved1F1B"), (Peaks{11, 9, 7, 5}));
  EXPECT_EQ(peaks("LoopedBFS"), (Peaks{16, 16, 16, 16}));
  // Chunks of half a rank: as much as 1F1B's first rank, on every rank.
  EXPECT_EQ(peaks("ZBVZeroBubble"), (Peaks{8, 8, 8, 8}));
}

TEST(ValidateSchedule, MemoryIsBounded) {
  const Schedule schedule = make_schedule("1F1B", {.num_ranks = 4, .num_microbatches = 8});
  validate_schedule(schedule, {.max_live_microbatches = 4});
  EXPECT_ERROR(validate_schedule(schedule, {.max_live_microbatches = 3}), "rank 0", "4 forwards",
               "at most 3");
}

// A stage count times a microbatch count that no list can hold is refused without building tables.
TEST(ValidateSchedule, HugeCountsAreRefusedAtOnce) {
  EXPECT_ERROR(validate_csv("0F99999,0B99999\n"), "stage 0 has no forward of microbatch 0");
}

}  // namespace
}  // namespace tessera::pipeline
