#include "parallel/pipeline/schedules/simulate_schedule.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parallel/pipeline/schedules/dataflow.h"

namespace tessera::pipeline {
namespace {

void check_costs(const ActionCosts& costs, int64_t num_stages) {
  const auto check = [](const char* name, double cost) {
    TORCH_CHECK(std::isfinite(cost) && cost >= 0, "pipeline simulation: ", name, " costs ", cost,
                ", expected a finite number from 0 on");
  };
  check("forward", costs.forward);
  check("backward", costs.backward);
  check("backward_input", costs.backward_input);
  check("backward_weight", costs.backward_weight);
  check("transfer", costs.transfer);
  check("overlapped", costs.overlapped.value_or(0));
  for (const double factor : costs.stage_factors) check("stage_factors", factor);
  const auto num_factors = static_cast<int64_t>(costs.stage_factors.size());
  TORCH_CHECK(num_factors == 0 || num_factors == num_stages, "pipeline simulation: got ",
              num_factors, " stage_factors, expected one for each of the ", num_stages, " stages");
}

double cost_of(const Action& action, const ActionCosts& costs) {
  const double factor = costs.stage_factors.empty() ? 1 : costs.stage_factors[action.stage];
  switch (action.kind) {
    case ActionKind::kForward:
      return factor * costs.forward;
    case ActionKind::kBackward:
      return factor * costs.backward;
    case ActionKind::kBackwardInput:
      return factor * costs.backward_input;
    case ActionKind::kBackwardWeight:
      return factor * costs.backward_weight;
    default:
      return 0;
  }
}

double cost_of(const Step& step, const ActionCosts& costs) {
  double sum = 0;
  for (const Action& action : step.actions) sum += cost_of(action, costs);
  return step.actions.size() == 2 ? costs.overlapped.value_or(sum) : sum;
}

}  // namespace

Simulation simulate_schedule(const Schedule& schedule, const ActionCosts& costs) {
  check_costs(costs, schedule.num_stages());
  Simulation simulation;
  simulation.ranks.resize(schedule.ranks.size());
  std::map<Value, double> made_at;
  for (const Step& step : replay_order(schedule)) {
    SimulatedRank& rank = simulation.ranks[step.rank];
    double start = rank.actions.empty() ? 0 : rank.end();
    for (const Action& action : step.actions) {
      for (const Value& value : needs(action, schedule.num_stages())) {
        const bool is_local = schedule.placement.rank_of_stage[value.stage] == step.rank;
        start = std::max(start, made_at.at(value) + (is_local ? 0 : costs.transfer));
      }
    }
    const double cost = cost_of(step, costs);
    for (const Action& action : step.actions) {
      rank.actions.push_back({action, start, start + cost});
      if (const std::optional<Value> value = gives(action)) made_at[*value] = start + cost;
    }
    rank.busy += cost;
    simulation.makespan = std::max(simulation.makespan, start + cost);
  }
  for (SimulatedRank& rank : simulation.ranks) {
    rank.idle_share = simulation.makespan > 0 ? 1 - rank.busy / simulation.makespan : 0;
    simulation.idle_share += rank.idle_share / static_cast<double>(simulation.ranks.size());
  }
  return simulation;
}

}  // namespace tessera::pipeline
