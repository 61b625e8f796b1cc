#include "trainer/pictures/loss_series.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/numbers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using testing::kNan;

LossSeries series_of(const std::vector<double>& losses) {
  LossSeries series;
  for (const double loss : losses) series.push_back({static_cast<double>(series.size() + 1), loss});
  return series;
}

std::vector<double> losses_of(const LossSeries& series) {
  std::vector<double> losses;
  for (const LossPoint& point : series) losses.push_back(point.loss);
  return losses;
}

LossSeries noise(size_t num_points, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(5, 1);
  std::vector<double> losses(num_points);
  for (double& loss : losses) loss = normal(random);
  return series_of(losses);
}

TEST(LossSeries, IsInOrderOfStepsWithGapsForWhatCannotBeDrawn) {
  const double infinity = std::numeric_limits<double>::infinity();
  const LossSeries series = loss_series({{.step = 3, .loss = 3},
                                         {.step = 1, .loss = infinity},
                                         {.step = 2, .loss = kNan},
                                         {.step = 4, .loss = -1e301},
                                         {.step = 5, .loss = -2}});
  ASSERT_EQ(series.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(series[i].step, i + 1);
  EXPECT_TRUE(std::isnan(series[0].loss));
  EXPECT_TRUE(std::isnan(series[1].loss));
  EXPECT_EQ(series[2].loss, 3);
  EXPECT_TRUE(std::isnan(series[3].loss));
  EXPECT_EQ(series[4].loss, -2);
}

TEST(SmoothingWindow, IsOddAndATwentiethWithinBounds) {
  EXPECT_EQ(smoothing_window(0), 1u);
  EXPECT_EQ(smoothing_window(4), 1u);
  EXPECT_EQ(smoothing_window(5), 5u);
  EXPECT_EQ(smoothing_window(200), 11u);
  EXPECT_EQ(smoothing_window(1'000'000), 501u);
}

TEST(CentredMean, ShrinksBothWaysAtTheStartAndAheadAtTheEnd) {
  const LossSeries smooth = centred_mean(series_of({1, 2, 6, 4, 12, 8}), 5);
  EXPECT_THAT(losses_of(smooth), ElementsAre(1, 3, 5, 32.0 / 5, 30.0 / 4, 8));
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(smooth[i].step, i + 1);
}

TEST(CentredMean, NothingCrossesAGap) {
  const LossSeries smooth =
      centred_mean(series_of({1, 2, 3, kNan, 100, 200, 300, kNan, kNan, 7}), 5);
  EXPECT_EQ(losses_of(LossSeries(smooth.begin(), smooth.begin() + 3)),
            losses_of(centred_mean(series_of({1, 2, 3}), 5)));
  EXPECT_TRUE(std::isnan(smooth[3].loss));
  EXPECT_THAT(losses_of(LossSeries(smooth.begin() + 4, smooth.begin() + 7)),
              ElementsAre(100, 200, 200));
  EXPECT_TRUE(std::isnan(smooth[8].loss));
  EXPECT_EQ(smooth[9].loss, 7);
}

// The expected means are summed afresh for every point. Prefix sums of n losses of size 5 lose at
// most n * 5n * epsilon.
TEST(CentredMean, EqualsItsDefinition) {
  const size_t num_points = 3000;
  const size_t half = 10;
  const LossSeries series = noise(num_points, 3);
  const LossSeries smooth = centred_mean(series, 2 * half + 1);
  const double tolerance = 5.0 * num_points * num_points * 2.2e-16;
  for (size_t i = 0; i < num_points; ++i) {
    const size_t back = std::min(half, i);
    const size_t ahead = std::min(back, num_points - 1 - i);
    double sum = 0;
    for (size_t j = i - back; j <= i + ahead; ++j) sum += series[j].loss;
    EXPECT_NEAR(smooth[i].loss, sum / static_cast<double>(back + ahead + 1), tolerance) << i;
  }
}

TEST(CentredMean, AWindowOfOneChangesNothing) {
  const LossSeries series = noise(50, 4);
  EXPECT_EQ(losses_of(centred_mean(series, 1)), losses_of(series));
}

TEST(Thinned, ShortSeriesStayWhole) {
  const LossSeries series = noise(22, 1);
  EXPECT_EQ(losses_of(thinned(series, 10)), losses_of(series));
  EXPECT_TRUE(thinned({}, 10).empty());
}

TEST(Thinned, KeepsEndsAndExtremesInOrder) {
  for (const size_t num_points : {23u, 100u, 1001u, 12345u}) {
    SCOPED_TRACE(num_points);
    const LossSeries series = noise(num_points, num_points);
    const LossSeries thin = thinned(series, 10);
    EXPECT_LE(thin.size(), 22u);
    EXPECT_EQ(thin.front().step, series.front().step);
    EXPECT_EQ(thin.back().step, series.back().step);
    const auto less = [](const LossPoint& a, const LossPoint& b) { return a.loss < b.loss; };
    const auto [low, high] = std::minmax_element(series.begin(), series.end(), less);
    const auto [thin_low, thin_high] = std::minmax_element(thin.begin(), thin.end(), less);
    EXPECT_EQ(thin_low->step, low->step);
    EXPECT_EQ(thin_high->step, high->step);
    for (size_t i = 1; i < thin.size(); ++i) EXPECT_LT(thin[i - 1].step, thin[i].step);
  }
}

TEST(Thinned, AGroupWithoutValuesIsAGap) {
  LossSeries series = noise(1000, 5);
  for (size_t i = 400; i < 700; ++i) series[i].loss = kNan;
  const LossSeries thin = thinned(series, 10);
  const auto is_gap = [](const LossPoint& point) { return std::isnan(point.loss); };
  EXPECT_GE(std::count_if(thin.begin(), thin.end(), is_gap), 1);
  for (const LossPoint& point : thin) {
    EXPECT_TRUE(!is_gap(point) || (point.step > 400 && point.step <= 700)) << point.step;
  }
}

TEST(RoundTicks, AreMultiplesOfOneTwoOrFive) {
  EXPECT_THAT(round_ticks(0, 10, 5).values, ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(round_ticks(1, 100, 4).values, ElementsAre(20, 40, 60, 80, 100));
  EXPECT_THAT(round_ticks(2.1, 8.3, 7).values, ElementsAre(3, 4, 5, 6, 7, 8));
  EXPECT_THAT(round_ticks(1, 2, 1).values, ElementsAre(1, 2));
  EXPECT_EQ(round_ticks(0, 1e-4, 5).spacing, 2e-5);
}

TEST(RoundTicks, LieInTheRangeInReasonableNumber) {
  const uint64_t seed = 11;
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> exponent(-12, 12), unit(-1, 1);
  for (int i = 0; i < 1000; ++i) {
    const double low = unit(random) * std::pow(10.0, exponent(random));
    const double span = std::max(std::pow(10.0, exponent(random)), std::abs(low) * 1e-6);
    const Ticks ticks = round_ticks(low, low + span, 7);
    SCOPED_TRACE("seed " + std::to_string(seed) + " case " + std::to_string(i));
    EXPECT_GE(ticks.values.size(), 3u);
    EXPECT_LE(ticks.values.size(), 12u);
    for (const double value : ticks.values) {
      EXPECT_GE(value, low - 1e-6 * span);
      EXPECT_LE(value, low + 1.000001 * span);
    }
  }
}

TEST(TickLabel, HasTheDecimalsOfTheSpacing) {
  EXPECT_EQ(tick_label(5, 1), "5");
  EXPECT_EQ(tick_label(2.5, 0.5), "2.5");
  EXPECT_EQ(tick_label(3, 0.2), "3.0");
  EXPECT_EQ(tick_label(2.75, 0.05), "2.75");
  EXPECT_EQ(tick_label(0.3, 0.1), "0.3");
  EXPECT_EQ(tick_label(10000, 2000), "10,000");
  EXPECT_EQ(tick_label(0, 5), "0");
  EXPECT_EQ(tick_label(2e30, 1e30), "2e+30");
  EXPECT_EQ(tick_label(4e-9, 2e-9), "4e-09");
}

}  // namespace
}  // namespace tessera
