#include "trainer/pictures/schedule_svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

using pipeline::make_schedule;
using ::testing::Contains;
using testing::expect_well_formed_svg;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::svg_texts;

int64_t count(const std::string& text, const std::string& part) {
  int64_t number = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++number;
  return number;
}

TEST(ScheduleSvg, HasARowPerRankAndARectanglePerAction) {
  const std::string svg = schedule_svg(view_schedule(make_schedule("1F1B", {3, 4})));
  expect_well_formed_svg(svg);
  EXPECT_EQ(count(svg, "<g class=\"rank\">"), 3);
  EXPECT_EQ(count(svg, "fill=\"#175a9e\""), 12 + 1);  // forwards, and the legend
  EXPECT_EQ(count(svg, "fill=\"#2d7d46\""), 12 + 1);
  EXPECT_THAT(svg, Not(HasSubstr("#1b8a8f")));  // no split backward
  const std::vector<std::string> texts = svg_texts(svg);
  EXPECT_THAT(texts, Contains("3 ranks, 3 stages, 4 microbatches: makespan 18, bubble 33.3%"));
  EXPECT_THAT(texts, Contains("33% idle, 3 live"));
  EXPECT_EQ(std::count(texts.begin(), texts.end(), "3"), 6);  // microbatch 3, both ways
}

TEST(ScheduleSvg, LaterStagesAreLighter) {
  const std::string svg = schedule_svg(view_schedule(make_schedule("ZBVZeroBubble", {2, 4})));
  expect_well_formed_svg(svg);
  EXPECT_EQ(count(svg, "fill=\"#175a9e\""), 8 + 1);
  EXPECT_EQ(count(svg, "fill=\"#8badcf\""), 8);
  EXPECT_THAT(svg, HasSubstr("of the weights"));
}

TEST(ScheduleSvg, OverlappedPairsShareARow) {
  const std::string svg = schedule_svg(view_schedule(make_schedule("DualPipeV", {2, 4})));
  expect_well_formed_svg(svg);
  EXPECT_GT(count(svg, "height=\"14.0\""), 10);
  EXPECT_EQ(count(svg, "height=\"14.0\"") % 2, 0);
}

TEST(ScheduleSvg, ManyActionsAndNoTimeDrawToo) {
  expect_well_formed_svg(schedule_svg(view_schedule(make_schedule("1F1B", {8, 200}))));
  expect_well_formed_svg(
      schedule_svg(view_schedule(make_schedule("GPipe", {2, 2}), {.forward = 0, .backward = 0})));
  expect_well_formed_svg(schedule_svg(
      view_schedule(make_schedule("GPipe", {2, 2}), {.forward = 1e-7, .backward = 3e-7})));
}

TEST(ScheduleSvg, IsWrittenWholeOrNotAtAll) {
  const testing::TempDir folder;
  const ScheduleView view = view_schedule(make_schedule("1F1B", {2, 2}));
  const std::string path = (folder.path() / "a.svg").string();
  write_schedule_svg(path, view);
  EXPECT_EQ(testing::content_of(path), schedule_svg(view));
  EXPECT_ERROR(write_schedule_svg("/no/such/a.svg", view), "--svg: /no/such/a.svg");
}

}  // namespace
}  // namespace tessera
