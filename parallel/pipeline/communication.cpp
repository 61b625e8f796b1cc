#include "parallel/pipeline/communication.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <optional>

#include "parallel/pipeline/schedules/dataflow.h"
#include "parallel/pipeline/schedules/simulate_schedule.h"

namespace tessera::pipeline {
namespace {

// All steps, by the time at which they end when every action takes its default cost. Any order in
// which values are made before they are used would be right; the order by time puts receives where
// the value is likely to arrive.
std::vector<Step> steps_by_time(const Schedule& schedule) {
  const Simulation simulation = simulate_schedule(schedule);
  std::vector<Step> steps = replay_order(schedule);
  const auto end_of = [&](const Step& step) {
    return simulation.ranks[step.rank].actions[step.position].end;
  };
  std::stable_sort(steps.begin(), steps.end(),
                   [&](const Step& a, const Step& b) { return end_of(a) < end_of(b); });
  return steps;
}

class PlanBuilder {
 public:
  explicit PlanBuilder(const Schedule& schedule) : num_pending_(schedule.num_stages()) {
    plan_.placement = schedule.placement;
    plan_.num_microbatches = schedule.num_microbatches;
    plan_.ranks.resize(schedule.ranks.size());
    std::fill(num_pending_.begin(), num_pending_.end(), schedule.num_microbatches);
  }

  void add(const Step& step) {
    std::vector<Action>& actions = plan_.ranks[step.rank];
    actions.insert(actions.end(), step.actions.begin(), step.actions.end());
    for (const Action& action : step.actions) add_transfer(action);
    for (const Action& action : step.actions) add_reduction(action);
  }

  ExecutionPlan take() { return std::move(plan_); }

 private:
  void add_transfer(const Action& action) {
    const std::optional<Value> value = gives(action);
    if (!value) return;
    const std::optional<int64_t> consumer = consumer_of(*value, plan_.placement.num_stages());
    if (!consumer) return;
    const int64_t from = plan_.placement.rank_of_stage[action.stage];
    const int64_t to = plan_.placement.rank_of_stage[*consumer];
    if (from == to) return;
    const bool is_forward = value->kind == Value::Kind::kActivation;
    plan_.ranks[from].push_back({is_forward ? ActionKind::kSendForward : ActionKind::kSendBackward,
                                 action.stage, action.microbatch});
    plan_.ranks[to].push_back(
        {is_forward ? ActionKind::kReceiveForward : ActionKind::kReceiveBackward, *consumer,
         action.microbatch});
  }

  void add_reduction(const Action& action) {
    const bool is_last_of_microbatch =
        action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight;
    if (!is_last_of_microbatch || --num_pending_[action.stage] > 0) return;
    plan_.ranks[plan_.placement.rank_of_stage[action.stage]].push_back(
        {.kind = ActionKind::kReduceGradients, .stage = action.stage});
  }

  ExecutionPlan plan_;
  std::vector<int64_t> num_pending_;  // microbatches whose weight gradients a stage still lacks
};

}  // namespace

ExecutionPlan derive_communication(const Schedule& schedule) {
  PlanBuilder builder(schedule);
  for (const Step& step : steps_by_time(schedule)) builder.add(step);
  return builder.take();
}

int64_t peer_rank(const Action& transfer, const StagePlacement& placement) {
  TORCH_INTERNAL_ASSERT(is_send(transfer.kind) || is_receive(transfer.kind));
  const bool to_next =
      transfer.kind == ActionKind::kSendForward || transfer.kind == ActionKind::kReceiveBackward;
  return placement.rank_of_stage.at(transfer.stage + (to_next ? 1 : -1));
}

int64_t message_tag(const Action& transfer, int64_t num_microbatches) {
  TORCH_INTERNAL_ASSERT(is_send(transfer.kind) || is_receive(transfer.kind));
  const bool is_forward =
      transfer.kind == ActionKind::kSendForward || transfer.kind == ActionKind::kReceiveForward;
  const int64_t step = is_forward ? 1 : -1;
  const int64_t receiver = is_send(transfer.kind) ? transfer.stage + step : transfer.stage;
  return (2 * receiver + (is_forward ? 0 : 1)) * num_microbatches + transfer.microbatch;
}

}  // namespace tessera::pipeline
