#include "trainer/metrics/progress.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/trainer/cli/pseudo_terminal.h"

namespace tessera {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST(ProgressLine, ShowsWhereTheRunIsAndWhenItEnds) {
  EXPECT_EQ(progress_line(
                {.step = 12, .num_steps = 100, .loss = 5.12341, .tps = 4389.2, .elapsed_s = 12}),
            "step  12/100 [##                  ]  12%  loss 5.1234  4,389 tok/s  elapsed 0:12  "
            "ETA 1:28");
}

TEST(ProgressLine, IsFullWithTheLastStepOnly) {
  EXPECT_THAT(progress_line({.step = 999, .num_steps = 1000}),
              HasSubstr("[################### ]  99%"));
  EXPECT_THAT(progress_line({.step = 1000, .num_steps = 1000, .elapsed_s = 50}),
              HasSubstr("[####################] 100%"));
  EXPECT_THAT(progress_line({.step = 1000, .num_steps = 1000, .elapsed_s = 50}),
              EndsWith("ETA 0:00"));
}

TEST(ProgressLine, KeepsItsWidthWhileStepsAreCounted) {
  const ProgressState early{.step = 1, .num_steps = 100, .loss = 8, .tps = 1000, .elapsed_s = 1};
  const ProgressState late{.step = 99, .num_steps = 100, .loss = 3, .tps = 1000, .elapsed_s = 1};
  EXPECT_EQ(progress_line(early).find("loss"), progress_line(late).find("loss"));
}

TEST(ProgressLine, AResumedRunEstimatesFromItsOwnSteps) {
  // 10 steps took 20 s; 40 are left.
  EXPECT_THAT(progress_line({.step = 60, .num_steps = 100, .first_step = 50, .elapsed_s = 20}),
              EndsWith("elapsed 0:20  ETA 1:20"));
}

TEST(ProgressLine, KnowsNoEstimateBeforeTheFirstStep) {
  EXPECT_THAT(progress_line({.step = 50, .num_steps = 100, .first_step = 50}),
              EndsWith("ETA -:--"));
}

TEST(ProgressLine, OddStatesAreHarmless) {
  EXPECT_THAT(progress_line({.step = 0, .num_steps = 0}), HasSubstr("  0%"));
  EXPECT_THAT(progress_line({.step = 7, .num_steps = 5, .elapsed_s = 7}), EndsWith("ETA 0:00"));
  EXPECT_THAT(progress_line({.step = 1, .num_steps = 2, .loss = std::nan("")}),
              HasSubstr("loss nan"));
}

TEST(Progress, IsRedrawnInPlaceAndErased) {
  const testing::PseudoTerminal terminal(200);
  const Logger log({.color = false, .console_fd = terminal.fd()});
  const ProgressState state{.step = 1, .num_steps = 2};
  {
    const Progress progress(log);
    progress.update(state);
    EXPECT_EQ(terminal.output(), "\r\x1b[2K" + progress_line(state));
    log.info("saved");
    EXPECT_THAT(terminal.output(), EndsWith("saved\n" + progress_line(state)));
    progress.clear();
    EXPECT_EQ(terminal.output(), "\r\x1b[2K");
    progress.update(state);
    EXPECT_EQ(terminal.output(), "\r\x1b[2K" + progress_line(state));
  }
  EXPECT_EQ(terminal.output(), "\r\x1b[2K") << "erased at the end";
}

TEST(Progress, ShowsNothingWithoutATerminal) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    const Logger log({.console_fd = ends[1]});
    const Progress progress(log);
    progress.update({.step = 1, .num_steps = 2});
    progress.clear();
  }
  close(ends[1]);
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 0) << "the pipe is empty";
  close(ends[0]);
}

}  // namespace
}  // namespace tessera
