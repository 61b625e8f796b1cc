#include "trainer/pictures/loss_plot.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "tests/support/errors.h"
#include "tests/support/numbers.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

using testing::expect_well_formed_svg;
using ::testing::HasSubstr;
using testing::kNan;
using ::testing::Not;
using testing::svg_group;
using testing::svg_texts;

std::vector<StepRecord> falling(int64_t num_steps) {
  std::vector<StepRecord> records;
  for (int64_t step = 1; step <= num_steps; ++step) {
    const double done = static_cast<double>(step - 1) / static_cast<double>(num_steps);
    records.push_back({.step = step, .loss = 2 + 6 * std::exp(-5 * done)});
  }
  return records;
}

struct Point {
  double x, y;
};

// The points of each polyline of the group of that class.
std::vector<std::vector<Point>> polylines(const std::string& svg, const std::string& group) {
  std::vector<std::vector<Point>> lines;
  const std::string body = svg_group(svg, group);
  const std::string opening = "points=\"";
  for (size_t at = body.find(opening); at != body.npos; at = body.find(opening, at + 1)) {
    const size_t first = at + opening.size();
    std::istringstream numbers(body.substr(first, body.find('"', first) - first));
    Point point{};
    char comma = 0;
    lines.emplace_back();
    while (numbers >> point.x >> comma >> point.y) lines.back().push_back(point);
  }
  return lines;
}

void expect_inside_page(const std::vector<Point>& points) {
  for (const Point& point : points) {
    EXPECT_TRUE(point.x >= 0 && point.x <= 900 && point.y >= 0 && point.y <= 500)
        << point.x << "," << point.y;
  }
}

TEST(LossPlot, HasTitleAxesTicksLegendAndBothCurves) {
  const std::string svg = loss_svg(falling(100), {.title = "llama3 debugmodel"});
  expect_well_formed_svg(svg);
  EXPECT_EQ(svg.substr(0, 4), "<svg");
  EXPECT_THAT(svg, HasSubstr("width=\"900\" height=\"500\""));
  EXPECT_THAT(svg, HasSubstr("fill=\"#ffffff\"/>"));
  EXPECT_THAT(svg_texts(svg),
              ::testing::IsSupersetOf({"llama3 debugmodel", "step", "loss", "loss of each step",
                                       "centred mean of 5 steps", "start 8.0000", "end 2.0425",
                                       "10", "100", "3", "4", "5", "6", "7", "8"}));
}

TEST(LossPlot, PointsGoLeftToRightAndDownWithTheLoss) {
  const std::string svg = loss_svg(falling(100), {});
  for (const char* group : {"raw", "smooth"}) {
    const auto lines = polylines(svg, group);
    ASSERT_EQ(lines.size(), 1u) << group;
    ASSERT_EQ(lines[0].size(), 100u) << group;
    expect_inside_page(lines[0]);
    for (size_t i = 1; i < 100; ++i) {
      EXPECT_GT(lines[0][i].x, lines[0][i - 1].x);
      EXPECT_GE(lines[0][i].y, lines[0][i - 1].y) << "a smaller loss is lower on the page";
    }
  }
}

TEST(LossPlot, TheTitleIsEscaped) {
  const std::string svg = loss_svg(falling(3), {.title = "a<b & \"c\" > d\x01\n<script>"});
  expect_well_formed_svg(svg);
  EXPECT_THAT(svg, HasSubstr("<title>a&lt;b &amp; &quot;c&quot; &gt; d  &lt;script&gt;</title>"));
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
}

TEST(LossPlot, NoRecordsGiveAnEmptyFrame) {
  const std::string svg = loss_svg({}, {});
  expect_well_formed_svg(svg);
  EXPECT_THAT(svg_texts(svg), ::testing::Contains("no steps recorded"));
  EXPECT_TRUE(polylines(svg, "raw").empty());
}

TEST(LossPlot, OneRecordIsADot) {
  const std::string svg = loss_svg({{.step = 1, .loss = 8.25}}, {});
  expect_well_formed_svg(svg);
  EXPECT_TRUE(polylines(svg, "raw").empty());
  EXPECT_THAT(svg, HasSubstr("<circle"));
  EXPECT_THAT(svg_texts(svg), ::testing::IsSupersetOf({"start 8.2500", "1"}));
  EXPECT_THAT(svg, Not(HasSubstr("end 8")));
}

TEST(LossPlot, TwoRecordsAreALineWithoutSmoothing) {
  const std::string svg = loss_svg(falling(2), {});
  expect_well_formed_svg(svg);
  ASSERT_EQ(polylines(svg, "raw").size(), 1u);
  EXPECT_EQ(polylines(svg, "raw")[0].size(), 2u);
  EXPECT_THAT(svg, Not(HasSubstr("centred mean")));
  EXPECT_THAT(svg_texts(svg), ::testing::IsSupersetOf({"1", "2"}));
}

TEST(LossPlot, AConstantLossIsALevelLineInTheMiddle) {
  for (const double loss : {5.5, 0.0, -3.0, 1e-300, 1e299}) {
    SCOPED_TRACE(loss);
    std::vector<StepRecord> records = falling(20);
    for (StepRecord& record : records) record.loss = loss;
    const std::string svg = loss_svg(records, {});
    expect_well_formed_svg(svg);
    const auto lines = polylines(svg, "raw");
    ASSERT_EQ(lines.size(), 1u);
    expect_inside_page(lines[0]);
    for (const Point& point : lines[0]) {
      EXPECT_EQ(point.y, lines[0][0].y);
      EXPECT_TRUE(point.y > 200 && point.y < 320) << point.y;
    }
  }
}

TEST(LossPlot, LossesThatAreNotFiniteAreGapsAndMarked) {
  std::vector<StepRecord> records = falling(30);
  records[9].loss = kNan;
  records[10].loss = std::numeric_limits<double>::infinity();
  records[20].loss = kNan;
  records[22].loss = kNan;  // step 22 stands alone
  const std::string svg = loss_svg(records, {});
  expect_well_formed_svg(svg);
  const auto lines = polylines(svg, "raw");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].size(), 9u);
  EXPECT_EQ(lines[1].size(), 9u);
  EXPECT_EQ(lines[2].size(), 7u);
  EXPECT_THAT(svg_texts(svg), ::testing::Contains("4 not finite"));
}

TEST(LossPlot, NoFiniteLossAtAllIsSaid) {
  const std::string svg = loss_svg({{.step = 1, .loss = kNan}, {.step = 2, .loss = kNan}}, {});
  expect_well_formed_svg(svg);
  EXPECT_THAT(svg_texts(svg),
              ::testing::IsSupersetOf({"no step has a finite loss", "2 not finite"}));
}

TEST(LossPlot, AFirstAndLastStepWithoutLossAreNotAnnotated) {
  std::vector<StepRecord> records = falling(30);
  records.front().loss = kNan;
  records.back().loss = kNan;
  const std::string svg = loss_svg(records, {});
  expect_well_formed_svg(svg);
  EXPECT_THAT(svg, HasSubstr(">start 7.0789<"));
  EXPECT_THAT(svg, HasSubstr(">end 2.0564<"));
}

TEST(LossPlot, AMillionRecordsStaySmallAndKeepTheirSpike) {
  std::vector<StepRecord> records = falling(1'000'000);
  const double plain_top = polylines(loss_svg(records, {}), "raw")[0][0].y;
  records[654'321].loss = 20;
  const std::string svg = loss_svg(records, {});
  EXPECT_LT(svg.size(), 100'000u);
  const auto lines = polylines(svg, "raw");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_LE(lines[0].size(), 2002u);
  expect_inside_page(lines[0]);
  double top = 500;
  for (const Point& point : lines[0]) top = std::min(top, point.y);
  EXPECT_EQ(top, plain_top) << "the highest point touches the same margin";
  EXPECT_GT(lines[0][0].y, top + 100);
  EXPECT_THAT(svg_texts(svg), ::testing::Contains("1,000,000"));
}

TEST(LossPlot, EveryOtherLossMissingIsStillDrawn) {
  std::vector<StepRecord> records = falling(200'000);
  for (size_t i = 0; i < records.size(); i += 2) records[i].loss = kNan;
  const std::string svg = loss_svg(records, {});
  EXPECT_LT(svg.size(), 300'000u);
  EXPECT_THAT(svg_texts(svg), ::testing::Contains("100,000 not finite"));
}

TEST(LossPlot, ASizeWithoutRoomIsRefused) {
  EXPECT_ERROR(loss_svg({}, {.width = 100}), "100 x 500", "at least 300 x 200");
  expect_well_formed_svg(loss_svg(falling(10), {.width = 300, .height = 200}));
}

TEST(LossPlot, IsWrittenToAFile) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "loss.svg").string();
  write_loss_svg(path, falling(10), {.title = "t"});
  std::ifstream file(path);
  const std::string svg{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(svg, loss_svg(falling(10), {.title = "t"}));
  EXPECT_ERROR(write_loss_svg(path + "/loss.svg", {}, {}), "job.dump_folder", path + "/loss.svg");
}

}  // namespace
}  // namespace tessera
