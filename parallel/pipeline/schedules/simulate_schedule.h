// How long a schedule takes, and who waits, for given costs of its actions. No device is touched.
//
//   Simulation run = simulate_schedule(make_schedule("1F1B", {.num_ranks = 4,
//                                                             .num_microbatches = 8}));
//   run.makespan      // 33 units: (8 + 3) * (F + B)
//   run.idle_share    // 0.27: the bubble, 3 / (8 + 3)
#pragma once

#include <optional>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

// The costs of actions in any unit of time.
struct ActionCosts {
  double forward = 1;
  double backward = 2;
  double backward_input = 1;
  double backward_weight = 1;
  // The time from the end of an action to the start of its successor on another rank, which keeps
  // neither busy.
  double transfer = 0;
  std::optional<double> overlapped = {};   // F and B interleaved; without one, their sum
  std::vector<double> stage_factors = {};  // times the costs of each stage; empty: 1
};

struct TimedAction {
  Action action = {};
  double start = 0;
  double end = 0;  // an overlapped pair has one start and one end
};

struct SimulatedRank {
  std::vector<TimedAction> actions = {};
  double busy = 0;
  double idle_share = 0;  // of the makespan

  double start() const { return actions.front().start; }
  double end() const { return actions.back().end; }
};

struct Simulation {
  double makespan = 0;
  double idle_share = 0;  // mean over the ranks
  std::vector<SimulatedRank> ranks = {};
};

// Runs every rank's list in order, each action as soon as its inputs are there. Throws c10::Error
// for negative, infinite or NaN costs, for stage_factors that are not one a stage, and for a
// schedule that cannot run.
Simulation simulate_schedule(const Schedule& schedule, const ActionCosts& costs = {});

}  // namespace tessera::pipeline
