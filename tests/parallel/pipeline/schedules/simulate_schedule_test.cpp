#include "parallel/pipeline/schedules/simulate_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

// Forward, full backward, weight gradients, in units of time.
struct Costs {
  double f, b, w;

  ActionCosts actions() const {
    return {.forward = f, .backward = b, .backward_input = b - w, .backward_weight = w};
  }
};

constexpr Costs kCosts{1, 2, 1};

// Idle time of a rank: makespan - (F + B) * microbatches * local stages. Holds on all ranks alike.
void expect_bubble(const char* name, const ScheduleShape& shape, const Costs& costs,
                   double bubble) {
  const Schedule schedule = make_schedule(name, shape);
  const Simulation run = simulate_schedule(schedule, costs.actions());
  const double num_local =
      static_cast<double>(schedule.num_stages()) / static_cast<double>(shape.num_ranks);
  const double busy = num_local * static_cast<double>(shape.num_microbatches) * (costs.f + costs.b);
  const std::string what = std::string(name) + " P=" + std::to_string(shape.num_ranks) +
                           " M=" + std::to_string(shape.num_microbatches) +
                           " V=" + std::to_string(num_local);
  EXPECT_NEAR(run.makespan, busy + bubble, 1e-9) << what;
  EXPECT_NEAR(run.idle_share, bubble / (busy + bubble), 1e-12) << what;
  for (const SimulatedRank& rank : run.ranks) {
    EXPECT_NEAR(rank.busy, busy, 1e-9) << what;
    EXPECT_NEAR(rank.idle_share, run.idle_share, 1e-12) << what;
  }
}

// Calls body(shape) for 1 to 5 ranks, `least` to 3 P microbatches and 1 to 3 local stages, leaving
// out the shapes that the schedule does not have.
template <typename F>
void for_shapes(const char* name, int64_t (*least)(int64_t num_ranks), F body) {
  int64_t num_shapes = 0;
  for (int64_t num_ranks = 1; num_ranks <= 5; ++num_ranks) {
    for (int64_t num_microbatches = least(num_ranks); num_microbatches <= 3 * num_ranks;
         ++num_microbatches) {
      for (int64_t local = 1; local <= 3; ++local) {
        const ScheduleShape shape{num_ranks, num_microbatches, local};
        try {
          make_schedule(name, shape);
        } catch (const c10::Error&) {
          continue;
        }
        body(shape);
        ++num_shapes;
      }
    }
  }
  EXPECT_GT(num_shapes, 10) << name;
}

int64_t one(int64_t /*num_ranks*/) { return 1; }
int64_t one_a_rank(int64_t num_ranks) { return num_ranks; }
int64_t v_filled(int64_t num_ranks) { return 2 * num_ranks - 1; }
int64_t two_a_rank(int64_t num_ranks) { return 2 * num_ranks; }

double ranks_behind(const ScheduleShape& shape) { return static_cast<double>(shape.num_ranks - 1); }

// Huang et al., "GPipe", 2019, section 2.3, and Narayanan et al., "Efficient Large-Scale Language
// Model Training on GPU Clusters Using Megatron-LM", 2021, section 2.2.1: (P - 1)(F + B), which is
// (P - 1) / (M + P - 1) of the whole, whatever F and B are.
TEST(SimulateSchedule, GPipeAndOneForwardOneBackward) {
  for (const Costs& costs : {kCosts, Costs{3, 4, 1}}) {
    for (const char* name : {"GPipe", "1F1B"}) {
      for_shapes(name, one, [&](const ScheduleShape& shape) {
        expect_bubble(name, shape, costs, ranks_behind(shape) * (costs.f + costs.b));
      });
    }
  }
  const Simulation run = simulate_schedule(make_schedule("1F1B", {4, 8}));
  EXPECT_EQ(run.makespan, 33);
  EXPECT_NEAR(run.idle_share, 3.0 / 11.0, 1e-12);
}

// Narayanan et al. 2021, section 2.2.2: the same bubble of stages that are 1 / V as long, so
// (P - 1) / (V M + P - 1). Lamy-Poirier, "Breadth-First Pipeline Parallelism", 2022, has it too.
TEST(SimulateSchedule, Interleaved) {
  for (const char* name : {"Interleaved1F1B", "LoopedBFS"}) {
    for_shapes(name, one_a_rank, [&](const ScheduleShape& shape) {
      expect_bubble(name, shape, kCosts, ranks_behind(shape) * (kCosts.f + kCosts.b));
    });
  }
  const Simulation run = simulate_schedule(make_schedule("Interleaved1F1B", {4, 8, 2}));
  EXPECT_NEAR(run.idle_share, 3.0 / 19.0, 1e-12);
}

// Qi et al., "Zero Bubble Pipeline Parallelism", 2023, table 2 (their B is our I): ZB-H1 has
// (P - 1)(F + I - W) = (P - 1)(F + B - 2 W), if W takes no longer than F and I.
TEST(SimulateSchedule, InterleavedZeroBubble) {
  for (const Costs& costs : {kCosts, Costs{1.1, 2.1, 0.9}}) {
    for_shapes("InterleavedZeroBubble", one_a_rank, [&](const ScheduleShape& shape) {
      expect_bubble("InterleavedZeroBubble", shape, costs,
                    ranks_behind(shape) * (costs.f + costs.b - 2 * costs.w));
    });
  }
}

// Qi et al. 2023, section 6: with F = I = W no rank idles between its first and its last action.
// The rest of the makespan is the way to the last rank, P - 1 forwards.
TEST(SimulateSchedule, ZeroBubbleV) {
  for_shapes("ZBVZeroBubble", v_filled, [&](const ScheduleShape& shape) {
    expect_bubble("ZBVZeroBubble", shape, kCosts, ranks_behind(shape) * kCosts.f);
    const Simulation run = simulate_schedule(make_schedule("ZBVZeroBubble", shape));
    for (const SimulatedRank& rank : run.ranks) EXPECT_EQ(rank.end() - rank.start(), rank.busy);
  });
}

// github.com/deepseek-ai/DualPipe, table "Comparison", for P ranks of two stages:
// (P - 1)(F&B + B - 3 W), where F&B is the time of an overlapped pair; of forwards that take as
// long as I.
TEST(SimulateSchedule, DualPipeV) {
  for (const Costs& costs : {kCosts, Costs{2, 3, 1}}) {
    for_shapes("DualPipeV", two_a_rank, [&](const ScheduleShape& shape) {
      expect_bubble("DualPipeV", shape, costs,
                    ranks_behind(shape) * (costs.f + costs.b + costs.b - 3 * costs.w));
    });
  }
}

TEST(SimulateSchedule, OverlapShortensPairs) {
  const Schedule schedule = make_schedule("DualPipeV", {4, 8});
  ActionCosts costs;
  const double apart = simulate_schedule(schedule, costs).makespan;
  costs.overlapped = 2.5;
  EXPECT_LT(simulate_schedule(schedule, costs).makespan, apart);
  const Schedule pair = read_schedule_csv("0F0,1F0,(0F1;1B0)OVERLAP_F_B,0B0,1F1,1B1,0B1\n");
  const Simulation run = simulate_schedule(pair, costs);
  EXPECT_EQ(run.makespan, 2 + 2.5 + 2 + 1 + 2 + 2);
  EXPECT_EQ(run.ranks[0].actions[2].end, 4.5);
  EXPECT_EQ(run.ranks[0].actions[3].start, 2);
}

TEST(SimulateSchedule, TransfersTakeTimeButKeepNobodyBusy) {
  // F0 there and back: 2 forwards, 2 backwards and two transfers one after the other.
  const Schedule schedule = read_schedule_csv("0F0,0B0\n1F0,1B0\n");
  const Simulation run = simulate_schedule(schedule, {.transfer = 0.5});
  EXPECT_EQ(run.makespan, 7);
  EXPECT_EQ(run.ranks[1].start(), 1.5);
  EXPECT_EQ(run.ranks[0].busy, 3);
  // Neighbours on one rank have nothing to send.
  const Schedule local = read_schedule_csv("0F0,1F0,1B0,0B0\n");
  EXPECT_EQ(simulate_schedule(local, {.transfer = 0.5}).makespan, 6);
}

TEST(SimulateSchedule, StagesMayDiffer) {
  const Schedule schedule = read_schedule_csv("0F0,0B0\n1F0,1B0\n");
  const Simulation run = simulate_schedule(schedule, {.stage_factors = {1, 3}});
  EXPECT_EQ(run.makespan, 12);
  EXPECT_EQ(run.ranks[1].busy, 9);
  EXPECT_NEAR(run.ranks[0].idle_share, 0.75, 1e-12);
  EXPECT_NEAR(run.idle_share, 0.5, 1e-12);
}

TEST(SimulateSchedule, ActionsOfARankDoNotMeet) {
  const Simulation run = simulate_schedule(make_schedule("Interleaved1F1B", {3, 6}));
  for (const SimulatedRank& rank : run.ranks) {
    for (size_t i = 1; i < rank.actions.size(); ++i) {
      EXPECT_GE(rank.actions[i].start, rank.actions[i - 1].end);
    }
  }
}

TEST(SimulateSchedule, RefusesWhatIsNoCost) {
  const Schedule schedule = make_schedule("1F1B", {2, 2});
  EXPECT_ERROR(simulate_schedule(schedule, {.forward = -1}), "forward costs -1");
  EXPECT_ERROR(simulate_schedule(schedule, {.backward = std::numeric_limits<double>::infinity()}),
               "backward costs inf");
  EXPECT_ERROR(simulate_schedule(schedule, {.transfer = std::numeric_limits<double>::quiet_NaN()}),
               "transfer costs");
  EXPECT_ERROR(simulate_schedule(schedule, {.stage_factors = {1}}), "1 stage_factors", "2 stages");
  EXPECT_ERROR(simulate_schedule(read_schedule_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n")),
               "deadlock");
}

}  // namespace
}  // namespace tessera::pipeline
