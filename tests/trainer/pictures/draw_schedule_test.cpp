#include "trainer/pictures/draw_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using pipeline::make_schedule;
using pipeline::read_schedule_csv;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(DrawSchedule, Summary) {
  const ScheduleView view = view_schedule(make_schedule("Interleaved1F1B", {4, 8}));
  EXPECT_EQ(schedule_summary(view),
            "Interleaved1F1B: 4 ranks, 8 stages, 8 microbatches\n"
            "makespan 57, bubble 15.79%, at most 11 live microbatches\n");
}

TEST(DrawSchedule, NamesWhereThereIsRoom) {
  const ScheduleView view = view_schedule(make_schedule("1F1B", {2, 3}));
  EXPECT_EQ(schedule_timeline(view, {.columns = 60}),
            "rank  idle  live\n"
            "   0   25%     2 │F0 F1 · · · B0--- F2 B1--- ·  B2---\n"
            "   1   25%     1 │·  F0 B0--- F1 B1--- F2 B2--- · · ·\n"
            "F forward  B backward  · idle\n");
}

TEST(DrawSchedule, NamesHaveTheStageWhereARankHasSeveral) {
  const ScheduleView view = view_schedule(make_schedule("ZBVZeroBubble", {1, 1}));
  EXPECT_THAT(schedule_timeline(view, {.columns = 80}),
              HasSubstr("│0F0 1F0 1I0 1W0 0I0 0W0\nF forward  I backward of the input  W backward "
                        "of the weights  · idle\n"));
}

TEST(DrawSchedule, LettersWhereThereIsNot) {
  const ScheduleView view = view_schedule(make_schedule("1F1B", {2, 3}));
  EXPECT_THAT(schedule_timeline(view, {.columns = 37}),
              HasSubstr("│FF··B-FB-·B-\n   1   25%     1 │·FB-FB-FB-··\n"));
}

TEST(DrawSchedule, SamplesOfLongSchedules) {
  const ScheduleView view = view_schedule(make_schedule("GPipe", {1, 40}));
  EXPECT_THAT(schedule_timeline(view, {.columns = 47}),
              HasSubstr("│FFFFFFFFFFBBBBBBBBBBBBBBBBBBBB\n"));
  // Slots without duration have no column of their own.
  const ScheduleView free =
      view_schedule(make_schedule("GPipe", {1, 2}), {.forward = 0, .backward = 1});
  EXPECT_THAT(schedule_timeline(free, {.columns = 47}), HasSubstr("│" + std::string(30, 'B')));
  const ScheduleView nothing =
      view_schedule(make_schedule("GPipe", {1, 2}), {.forward = 0, .backward = 0});
  EXPECT_THAT(schedule_timeline(nothing, {.columns = 47}), Not(HasSubstr("nan")));
}

TEST(DrawSchedule, OverlappedPairsAreOneSlot) {
  const ScheduleView view =
      view_schedule(read_schedule_csv("0F0,1F0,(0F1;1B0)OVERLAP_F_B,0B0,1F1,1B1,0B1\n"));
  EXPECT_THAT(schedule_timeline(view, {.columns = 120}), HasSubstr(" 0F1+1B0---- 0B0---- "));
  EXPECT_THAT(schedule_timeline(view, {.columns = 40}), HasSubstr("│FFFB-B-FB-B-\n"));
  EXPECT_THAT(schedule_timeline(view, {.columns = 40}), HasSubstr("FB a pair, interleaved"));
}

TEST(DrawSchedule, ColorsStandForKinds) {
  const ScheduleView view = view_schedule(make_schedule("1F1B", {1, 1}));
  const std::string colored = schedule_timeline(view, {.columns = 60, .color = true});
  EXPECT_THAT(colored, HasSubstr("\x1b[30;46mF0\x1b[0m \x1b[30;42mB0   \x1b[0m\n"));
  EXPECT_THAT(schedule_timeline(view, {.columns = 60}), Not(HasSubstr("\x1b")));
}

TEST(DrawSchedule, JsonHasEveryAction) {
  const ScheduleView view =
      view_schedule(make_schedule("ZBVZeroBubble", {2, 4}), {.transfer = 0.5, .overlapped = 3});
  const nlohmann::json report = nlohmann::json::parse(schedule_json(view));
  EXPECT_EQ(report["schedule"], "ZBVZeroBubble");
  EXPECT_EQ(report["ranks"], 2);
  EXPECT_EQ(report["stages"], 4);
  EXPECT_EQ(report["microbatches"], 4);
  EXPECT_EQ(report["costs"]["transfer"], 0.5);
  EXPECT_EQ(report["costs"]["overlapped"], 3);
  EXPECT_EQ(report["makespan"], view.run.makespan);
  EXPECT_EQ(report["idle_share"], view.run.idle_share);
  const nlohmann::json& second = report["per_rank"][1];
  EXPECT_EQ(second["stages"], nlohmann::json({1, 2}));
  EXPECT_EQ(second["peak_live"], view.peak_live[1]);
  EXPECT_EQ(second["actions"].size(), 24u);
  EXPECT_EQ(second["actions"][0], nlohmann::json({"1F0", 1.5, 2.5}));
}

TEST(DrawSchedule, WhatCannotRunIsRefused) {
  EXPECT_ERROR(view_schedule(read_schedule_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n")), "deadlock");
  EXPECT_ERROR(view_schedule(read_schedule_csv("0B0,0F0\n")), "before its forward");
}

TEST(DrawSchedule, TimesAreShort) {
  EXPECT_EQ(time_text(33), "33");
  EXPECT_EQ(time_text(26.5), "26.5");
  EXPECT_EQ(time_text(0.1 + 0.2), "0.3");
}

}  // namespace
}  // namespace tessera
