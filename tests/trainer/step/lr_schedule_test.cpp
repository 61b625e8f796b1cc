#include "trainer/step/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/support/errors.h"
#include "tests/support/golden.h"

namespace tessera {
namespace {

TEST(LrSchedule, EqualsTorchTitansTables) {
  std::ifstream file(testing::golden("trainer/lr_schedules.json"));
  const auto golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden["cases"].size(), 10u);
  for (const auto& row : golden["cases"]) {
    LrScheduleOptions options{.steps = row["steps"],
                              .warmup_steps = row["warmup_steps"],
                              .type = decay_type_from_string(row["decay_type"].get<std::string>()),
                              .min_lr_factor = row["min_lr_factor"]};
    if (!row["decay_ratio"].is_null()) options.decay_ratio = row["decay_ratio"].get<double>();
    const auto expected = row["expected"].get<std::vector<double>>();
    ASSERT_EQ(static_cast<int64_t>(expected.size()), options.steps);
    for (int64_t s = 0; s < options.steps; ++s) {
      EXPECT_NEAR(lr_factor(options, s), expected[s], 1e-12) << row["name"] << " step " << s;
    }
  }
}

TEST(LrSchedule, CheckValuesOfTheReference) {
  const LrScheduleOptions options{.steps = 10, .warmup_steps = 2, .decay_ratio = 0.8};
  const std::vector<double> expected = {.5, 1, 1, .875, .75, .625, .5, .375, .25, .125};
  for (int64_t s = 0; s < 10; ++s) EXPECT_DOUBLE_EQ(lr_factor(options, s), expected[s]);
}

TEST(LrSchedule, PhasesFillTheRunPlusOneVirtualStep) {
  const uint64_t seed = 7;
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    LrScheduleOptions options{.steps = 1 + static_cast<int64_t>(random() % 200),
                              .warmup_steps = static_cast<int64_t>(random() % 220)};
    if (i % 3 != 0) options.decay_ratio = static_cast<double>(random() % 1001) / 1000;
    const LrPhases phases = lr_phases(options);
    SCOPED_TRACE("seed " + std::to_string(seed) + " case " + std::to_string(i));
    EXPECT_EQ(phases.warmup + phases.stable + phases.decay, options.steps + 1);
    EXPECT_EQ(phases.warmup, std::min(options.warmup_steps, options.steps));
    EXPECT_GE(phases.stable, 1);
    EXPECT_GE(phases.decay, 0);
  }
}

TEST(LrSchedule, RisesThenStaysThenFallsToTheFloor) {
  for (const DecayType type : {DecayType::kLinear, DecayType::kSqrt, DecayType::kCosine}) {
    const LrScheduleOptions options{
        .steps = 50, .warmup_steps = 10, .decay_ratio = 0.5, .type = type, .min_lr_factor = 0.1};
    for (int64_t s = 1; s < 60; ++s) {
      const double before = lr_factor(options, s - 1);
      const double now = lr_factor(options, s);
      SCOPED_TRACE(std::string(to_string(type)) + " step " + std::to_string(s));
      if (s < 10) {
        EXPECT_GT(now, before);
      } else if (s < 26) {
        EXPECT_EQ(now, 1);
      } else if (s <= 50) {
        EXPECT_LT(now, before);
      } else {
        EXPECT_EQ(now, before);
      }
    }
    EXPECT_GT(lr_factor(options, 49), 0.1);
    EXPECT_NEAR(lr_factor(options, 50), 0.1, 1e-15);  // the virtual last step
  }
}

TEST(LrSchedule, AWarmUpLongerThanTheRunIsShortened) {
  const LrScheduleOptions options{.steps = 4, .warmup_steps = 1000};
  EXPECT_EQ(lr_phases(options).warmup, 4);
  EXPECT_DOUBLE_EQ(lr_factor(options, 0), 0.25);
  EXPECT_DOUBLE_EQ(lr_factor(options, 3), 1);
}

TEST(LrSchedule, HalfADecayStepRoundsToEvenAsInPython) {
  EXPECT_EQ(lr_phases({.steps = 5, .decay_ratio = 0.5}).decay, 2);   // 2.5
  EXPECT_EQ(lr_phases({.steps = 7, .decay_ratio = 0.5}).decay, 4);   // 3.5
  EXPECT_EQ(lr_phases({.steps = 11, .decay_ratio = 0.5}).decay, 6);  // 5.5
}

TEST(LrSchedule, BadOptionsNameTheKey) {
  EXPECT_ERROR(lr_phases({.steps = 0}), "training.steps is 0", "at least 1");
  EXPECT_ERROR(lr_phases({.steps = 1, .warmup_steps = -1}), "lr_scheduler.warmup_steps is -1");
  EXPECT_ERROR(lr_phases({.steps = 1, .decay_ratio = 1.5}), "lr_scheduler.decay_ratio is 1.5",
               "from 0 to 1");
  EXPECT_ERROR(lr_phases({.steps = 1, .decay_ratio = std::nan("")}), "lr_scheduler.decay_ratio");
  EXPECT_ERROR(lr_phases({.steps = 1, .min_lr_factor = -0.5}),
               "lr_scheduler.min_lr_factor is -0.5");
  EXPECT_ERROR(lr_factor({.steps = 1}, -1), "step0 is -1");
  EXPECT_ERROR(decay_type_from_string("exponential"), "lr_scheduler.decay_type", "exponential",
               "cosine");
}

TEST(LrSchedule, NamesOfDecaysReadBack) {
  for (const DecayType type : {DecayType::kLinear, DecayType::kSqrt, DecayType::kCosine}) {
    EXPECT_EQ(decay_type_from_string(to_string(type)), type);
  }
}

}  // namespace
}  // namespace tessera
