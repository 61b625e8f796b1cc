#include "parallel/pipeline/held_bytes.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <deque>

#include "parallel/pipeline/pipeline_runtime.h"

namespace tessera::pipeline {
namespace {

// Counts the messages of one rank, as PipelineRuntime keeps them.
class MessageCount {
 public:
  MessageCount(const StagePlacement& placement, int64_t rank) : placement_(placement) {
    here_ = placement.stages_of(rank);
  }

  void perform(const Action& action) {
    if (is_receive(action.kind)) add(1);
    if (is_send(action.kind)) send(action.kind == ActionKind::kSendBackward);
    if (action.kind == ActionKind::kForward && comes_from_elsewhere(action.stage, -1)) add(-1);
    if (is_input_backward(action.kind)) backward(action.stage);
  }

  int64_t peak() const { return peak_; }

 private:
  bool exists(int64_t stage) const { return stage >= 0 && stage < placement_.num_stages(); }
  bool is_here(int64_t stage) const {
    return std::find(here_.begin(), here_.end(), stage) != here_.end();
  }
  bool comes_from_elsewhere(int64_t stage, int64_t step) const {
    return exists(stage + step) && !is_here(stage + step);
  }

  void add(int64_t count) {
    held_ += count;
    peak_ = std::max(peak_, held_);
  }

  // Counts the gradient that a backward makes and the one that it took.
  void backward(int64_t stage) {
    if (exists(stage - 1) && is_here(stage - 1)) add(1);
    if (exists(stage + 1)) add(-1);
  }

  void send(bool is_gradient) {
    sends_.push_back(is_gradient ? 1 : 0);
    add(sends_.back());
    for (; sends_.size() > kSendsUnderWay; sends_.pop_front()) add(-sends_.front());
  }

  const StagePlacement& placement_;
  std::vector<int64_t> here_;
  std::deque<int64_t> sends_;  // under way, oldest first: 1 for a gradient
  int64_t held_ = 0, peak_ = 0;
};

}  // namespace

int64_t peak_held_bytes(const Schedule& schedule, int64_t rank,
                        const std::vector<StageBytes>& stages) {
  TORCH_CHECK(static_cast<int64_t>(stages.size()) == schedule.num_stages(), "peak_held_bytes: got ",
              stages.size(), " stages, expected the ", schedule.num_stages(), " of ",
              schedule.name);
  int64_t held = 0, peak = 0;
  for (const Action& action : schedule.ranks.at(static_cast<size_t>(rank))) {
    const StageBytes& stage = stages[static_cast<size_t>(action.stage)];
    if (action.kind == ActionKind::kForward) held += stage.activations;
    if (is_input_backward(action.kind)) held -= stage.activations;
    if (action.kind == ActionKind::kBackwardInput) held += stage.deferred;
    if (action.kind == ActionKind::kBackwardWeight) held -= stage.deferred;
    peak = std::max(peak, held);
  }
  return peak;
}

int64_t peak_messages(const ExecutionPlan& plan, int64_t rank) {
  MessageCount count(plan.placement, rank);
  for (const Action& action : plan.ranks.at(static_cast<size_t>(rank))) count.perform(action);
  return count.peak();
}

}  // namespace tessera::pipeline
