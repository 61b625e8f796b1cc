#include "parallel/pipeline/schedules/make_schedule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"

namespace tessera::pipeline {
namespace {

std::string order_of(const Schedule& schedule, int64_t rank) {
  std::string text;
  for (const Action& action : schedule.ranks[rank]) {
    text += (text.empty() ? "" : " ") + to_string(action);
  }
  return text;
}

Schedule make(const std::string& name, int64_t num_ranks, int64_t num_microbatches) {
  return make_schedule(name, {.num_ranks = num_ranks, .num_microbatches = num_microbatches});
}

TEST(MakeSchedule, Case22OneForwardOneBackwardAndLoopedBfs) {
  const Schedule one = make("1F1B", 2, 4);
  EXPECT_EQ(order_of(one, 0), "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3");
  EXPECT_EQ(order_of(one, 1), "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3");
  EXPECT_EQ(order_of(make("LoopedBFS", 2, 2), 0), "0F0 0F1 2F0 2F1 2B1 2B0 0B1 0B0");
}

TEST(MakeSchedule, Case23Interleaved) {
  const Schedule interleaved = make("Interleaved1F1B", 2, 4);
  EXPECT_EQ(order_of(interleaved, 0),
            "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3");
  EXPECT_EQ(order_of(interleaved, 1),
            "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3");
  for (const char* name : {"Interleaved1F1B", "InterleavedZeroBubble"}) {
    EXPECT_EQ(make(name, 4, 10).num_microbatches, 10);
    EXPECT_EQ(make(name, 4, 3).num_microbatches, 3);
    EXPECT_ERROR(make(name, 4, 9), name, "9 microbatches on 4 ranks", "multiple of the 2 rounds");
    EXPECT_ERROR(make(name, 2, 5), name, "5 microbatches on 2 ranks");
  }
}

TEST(MakeSchedule, Case24ZeroBubbleV) {
  const Schedule v = make("ZBVZeroBubble", 2, 4);
  EXPECT_EQ(order_of(v, 0),
            "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 "
            "0W2 0I3 0W3");
  EXPECT_EQ(v.placement, v_placement(2, 2));
  EXPECT_EQ(make("DualPipeV", 2, 4).placement, v_placement(2, 2));
  EXPECT_EQ(make("LoopedBFS", 2, 4).placement, loop_placement(2, 2));
}

// Every order and every refusal of tests/golden/pipeline, which PyTorch made.
TEST(MakeSchedule, OrdersAndRefusalsArePyTorchs) {
  std::ifstream golden(testing::golden("pipeline/schedules.txt"));
  int64_t num_orders = 0;
  int64_t num_refusals = 0;
  for (std::string line; std::getline(golden, line);) {
    std::istringstream header(line);
    std::string hash, name, refused;
    int64_t num_ranks = 0, num_local = 0, num_microbatches = 0;
    header >> hash >> name >> num_ranks >> num_local >> num_microbatches >> refused;
    ASSERT_EQ(hash, "#");
    const ScheduleShape shape{num_ranks, num_microbatches, num_local};
    if (refused == "refused") {
      EXPECT_ERROR(make_schedule(name, shape), name, std::to_string(num_microbatches));
      ++num_refusals;
      continue;
    }
    std::string rows;
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      std::getline(golden, line);
      rows += line + "\n";
    }
    ASSERT_EQ(write_schedule_csv(make_schedule(name, shape)), rows) << header.str();
    ++num_orders;
  }
  EXPECT_EQ(num_orders, 335);
  EXPECT_EQ(num_refusals, 43);
}

TEST(MakeSchedule, NamesAreCaseInsensitive) {
  EXPECT_EQ(make("zbvzerobubble", 2, 4).name, "ZBVZeroBubble");
  EXPECT_STREQ(schedule_traits("GPIPE").name, "GPipe");
  EXPECT_ERROR(make("1F1", 2, 4), "\"1F1\"", "GPipe, 1F1B, Interleaved1F1B, LoopedBFS");
}

TEST(MakeSchedule, TraitsTellWhatASchedulesStagesAre) {
  ASSERT_EQ(all_schedule_traits().size(), 7u);
  for (const ScheduleTraits& traits : all_schedule_traits()) {
    const Schedule schedule = make(traits.name, 2, 4);
    EXPECT_EQ(schedule.num_stages(), 2 * traits.default_stages_per_rank) << traits.name;
    EXPECT_EQ(order_of(schedule, 0).find('I') != std::string::npos, traits.splits_backward);
    EXPECT_EQ(schedule.placement == v_placement(2, traits.default_stages_per_rank),
              traits.is_v || traits.default_stages_per_rank == 1);
  }
}

TEST(MakeSchedule, RefusesShapesThatASchedulesDoesNotHave) {
  EXPECT_ERROR(make("1F1B", 4, 3), "1F1B", "3 microbatches for 4 stages");
  EXPECT_ERROR(make("DualPipeV", 4, 7), "DualPipeV", "7 microbatches for 8 stages");
  EXPECT_ERROR(make_schedule("GPipe", {2, 4, 2}), "GPipe", "2 stages a rank, expected 1");
  EXPECT_ERROR(make_schedule("ZBVZeroBubble", {2, 4, 3}), "3 stages a rank, expected 2");
  EXPECT_ERROR(make_schedule("LoopedBFS", {2, 4, 0}), "0 stages a rank");
  EXPECT_ERROR(make("GPipe", 0, 4), "0 ranks");
  EXPECT_ERROR(make("GPipe", 2, 0), "0 microbatches");
}

}  // namespace
}  // namespace tessera::pipeline
