#include "parallel/pipeline/schedules/schedule_csv.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/validate_schedule.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera::pipeline {
namespace {

TEST(ScheduleCsv, GivesBackWhatWasWritten) {
  for (const ScheduleTraits& traits : all_schedule_traits()) {
    const Schedule schedule = make_schedule(traits.name, {.num_ranks = 3, .num_microbatches = 6});
    const Schedule read = read_schedule_csv(write_schedule_csv(schedule));
    EXPECT_EQ(read.ranks, schedule.ranks) << traits.name;
    EXPECT_EQ(read.placement, schedule.placement) << traits.name;
    EXPECT_EQ(read.num_microbatches, 6);
    validate_schedule(read);
  }
}

TEST(ScheduleCsv, IdleCellsBlanksAndLineEndsSayNothing) {
  const Schedule schedule =
      read_schedule_csv("0F0, 0F1 ,,0B0,,0B1,\r\n,1F0,1I0,1F1,1W0,1B1\r\n\r\n");
  EXPECT_EQ(write_schedule_csv(schedule), "0F0,0F1,0B0,0B1\n1F0,1I0,1F1,1W0,1B1\n");
  EXPECT_EQ(schedule.placement, loop_placement(2, 1));
}

TEST(ScheduleCsv, OverlappedPairsAreOneCell) {
  const Schedule schedule = read_schedule_csv("0F0,1F0,(0F1; 1B0)OVERLAP_F_B,0B0,1F1,1B1,0B1\n");
  EXPECT_TRUE(schedule.ranks[0][2].overlaps_next);
  EXPECT_FALSE(schedule.ranks[0][3].overlaps_next);
  EXPECT_EQ(write_schedule_csv(schedule), "0F0,1F0,(0F1;1B0)OVERLAP_F_B,0B0,1F1,1B1,0B1\n");
  validate_schedule(schedule);
}

TEST(ScheduleCsv, ErrorsNameLineAndCell) {
  EXPECT_ERROR(read_schedule_csv(""), "no actions");
  EXPECT_ERROR(read_schedule_csv(" \n\n"), "no actions");
  EXPECT_ERROR(read_schedule_csv("0F0,0B0\n,,\n2F0,2B0\n"), "line 2", "rank 1");
  EXPECT_ERROR(read_schedule_csv("0F0,0B0\n1F0,,1X0\n"), "line 2, cell 3", "\"1X0\"", "2I0");
  for (const char* cell : {"F0", "0F", "0", "F", "0f0", "-1F0", "0F-1", "0F0 0B0", "0F0x",
                           "\"0F0\"", "99999999999999999999F0"}) {
    EXPECT_ERROR(read_schedule_csv(cell), "line 1, cell 1", cell, "is no action");
  }
  EXPECT_ERROR(read_schedule_csv("100000F0"), "\"100000F0\"", "out of range");
  EXPECT_ERROR(read_schedule_csv("0F100000"), "\"0F100000\"", "out of range");
  for (const char* cell : {"0SEND_F0", "1RECV_B2", "0REDUCE_GRAD"}) {
    EXPECT_ERROR(read_schedule_csv(cell), cell, "is communication, which is derived");
  }
  for (const char* cell :
       {"(0F0;1B0)", "(0F0;1B0", "(0F0)OVERLAP_F_B", "(0F0;1B0;2B0)OVERLAP_F_B"}) {
    EXPECT_ERROR(read_schedule_csv(cell), "line 1, cell 1", "is no pair");
  }
  EXPECT_ERROR(read_schedule_csv("0F0,0B0\n2F0,2B0\n"), "stage 1 has no actions", "0 to 2");
}

TEST(ScheduleCsv, ErrorsOfFilesNameThem) {
  const testing::TempDir folder;
  const std::string path = folder.write("own.csv", "0F0,0B0\n1F0,1B9z\n");
  EXPECT_ERROR(load_schedule_csv(path), path, "line 2, cell 2", "\"1B9z\"");
  EXPECT_EQ(load_schedule_csv(folder.write("good.csv", "0F0,0B0\n1F0,1B0\n")).name, "good.csv");
  EXPECT_ERROR(load_schedule_csv("/no/such.csv"), "/no/such.csv", "cannot be read", "No such file");
}

}  // namespace
}  // namespace tessera::pipeline
