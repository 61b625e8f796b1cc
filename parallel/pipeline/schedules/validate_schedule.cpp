#include "parallel/pipeline/schedules/validate_schedule.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "parallel/pipeline/schedules/dataflow.h"

namespace tessera::pipeline {
namespace {

// The passes of a stage and microbatch that are done.
struct Progress {
  bool forward = false;
  bool input_backward = false;
  bool weight_backward = false;
};

// The rules that concern one rank's list.
class RankCheck {
 public:
  RankCheck(const Schedule& schedule, int64_t rank) : schedule_(schedule), rank_(rank) {}

  void check_actions() {
    const std::vector<Action>& actions = schedule_.ranks[rank_];
    for (position_ = 0; position_ < actions.size(); ++position_) {
      const Action& action = actions[position_];
      check_is_ours(action);
      if (action.overlaps_next) check_pair(action);
      check_order(action);
    }
  }

  void check_complete() const {
    for (const int64_t stage : schedule_.placement.stages_of(rank_)) check_complete(stage);
  }

 private:
  template <typename... Parts>
  void require(bool holds, const Action& action, const Parts&... reason) const {
    TORCH_CHECK(holds, schedule_.name, ": rank ", rank_, ", position ", position_, " (",
                to_string(action), "): ", reason...);
  }

  void check_is_ours(const Action& action) const {
    require(is_compute(action.kind), action, "communication is derived, expected F, B, I or W");
    require(action.stage >= 0 && action.stage < schedule_.num_stages(), action,
            "expected stages 0 to ", schedule_.num_stages() - 1);
    require(action.microbatch >= 0 && action.microbatch < schedule_.num_microbatches, action,
            "expected microbatches 0 to ", schedule_.num_microbatches - 1);
    const int64_t owner = schedule_.placement.rank_of_stage[action.stage];
    require(owner == rank_, action, "stage ", action.stage, " belongs to rank ", owner);
  }

  void check_pair(const Action& action) const {
    const std::vector<Action>& actions = schedule_.ranks[rank_];
    require(action.kind == ActionKind::kForward && position_ + 1 < actions.size() &&
                is_input_backward(actions[position_ + 1].kind) &&
                !actions[position_ + 1].overlaps_next,
            action, "overlaps the next action, expected a forward and then a backward");
    const Action& next = actions[position_ + 1];
    require(next.stage != action.stage || next.microbatch != action.microbatch, action,
            "overlaps its own backward, which needs it");
  }

  void check_order(const Action& action) {
    Progress& done = progress_[{action.stage, action.microbatch}];
    if (action.kind == ActionKind::kForward) {
      require(!std::exchange(done.forward, true), action, "is there twice");
    } else if (action.kind == ActionKind::kBackwardWeight) {
      require(done.input_backward, action, "comes before the backward of the input");
      require(!std::exchange(done.weight_backward, true), action,
              "these gradients are there already");
    } else {
      require(done.forward, action, "comes before its forward");
      require(!std::exchange(done.input_backward, true), action, "is the second backward");
      done.weight_backward = action.kind == ActionKind::kBackward;
    }
  }

  void check_complete(int64_t stage) const {
    for (int64_t microbatch = 0; microbatch < schedule_.num_microbatches; ++microbatch) {
      const auto found = progress_.find({stage, microbatch});
      const Progress done = found == progress_.end() ? Progress{} : found->second;
      const char* missing = !done.forward          ? "forward"
                            : !done.input_backward ? "backward (B, or I and W)"
                                                   : "weight backward (W)";
      TORCH_CHECK(done.forward && done.input_backward && done.weight_backward, schedule_.name,
                  ": rank ", rank_, ": stage ", stage, " has no ", missing, " of microbatch ",
                  microbatch);
    }
  }

  const Schedule& schedule_;
  int64_t rank_;
  size_t position_ = 0;
  std::map<std::pair<int64_t, int64_t>, Progress> progress_;  // by stage and microbatch
};

void check_shape(const Schedule& schedule) {
  const StagePlacement& placement = schedule.placement;
  TORCH_CHECK(schedule.num_microbatches >= 1 && placement.num_ranks >= 1, schedule.name, ": got ",
              placement.num_ranks, " ranks and ", schedule.num_microbatches,
              " microbatches, expected at least 1 of both");
  TORCH_CHECK(static_cast<int64_t>(schedule.ranks.size()) == placement.num_ranks, schedule.name,
              ": has the actions of ", schedule.ranks.size(), " ranks, expected ",
              placement.num_ranks);
  for (int64_t rank = 0; rank < placement.num_ranks; ++rank) {
    TORCH_CHECK(!placement.stages_of(rank).empty(), schedule.name, ": rank ", rank,
                " has no stage");
  }
  for (const int64_t rank : placement.rank_of_stage) {
    TORCH_CHECK(rank >= 0 && rank < placement.num_ranks, schedule.name, ": a stage is on rank ",
                rank, ", expected ranks 0 to ", placement.num_ranks - 1);
  }
}

}  // namespace

void validate_schedule(const Schedule& schedule, const ScheduleLimits& limits) {
  check_shape(schedule);
  std::vector<RankCheck> checks;
  for (int64_t rank = 0; rank < schedule.num_ranks(); ++rank) {
    checks.emplace_back(schedule, rank).check_actions();
  }
  for (const RankCheck& check : checks) check.check_complete();
  replay_order(schedule);
  const std::vector<int64_t> peaks = peak_live_microbatches(schedule);
  const auto largest = std::max_element(peaks.begin(), peaks.end());
  const int64_t most = limits.max_live_microbatches.value_or(*largest);
  TORCH_CHECK(*largest <= most, schedule.name, ": rank ", largest - peaks.begin(),
              " holds the activations of ", *largest, " forwards at once, expected at most ", most);
}

std::vector<int64_t> peak_live_microbatches(const Schedule& schedule) {
  std::vector<int64_t> peaks;
  for (const std::vector<Action>& actions : schedule.ranks) {
    int64_t live = 0;
    int64_t peak = 0;
    for (const Action& action : actions) {
      const bool ends =
          action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight;
      live += action.kind == ActionKind::kForward ? 1 : ends ? -1 : 0;
      peak = std::max(peak, live);
    }
    peaks.push_back(peak);
  }
  return peaks;
}

}  // namespace tessera::pipeline
