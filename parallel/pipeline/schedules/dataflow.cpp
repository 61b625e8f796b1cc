#include "parallel/pipeline/schedules/dataflow.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <set>
#include <string>

namespace tessera::pipeline {
namespace {

std::string describe(const Value& value) {
  const bool is_output = value.kind == Value::Kind::kActivation;
  return std::string(is_output ? "the output" : "the input gradient") + " of stage " +
         std::to_string(value.stage) + ", microbatch " + std::to_string(value.microbatch);
}

class Replay {
 public:
  explicit Replay(const Schedule& schedule)
      : schedule_(schedule), positions_(schedule.ranks.size()) {}

  std::vector<Step> run() {
    while (!is_done()) {
      const size_t num_before = order_.size();
      for (int64_t rank = 0; rank < num_ranks(); ++rank) advance(rank);
      TORCH_CHECK(order_.size() > num_before, schedule_.name, ": deadlock: ", waits());
    }
    return std::move(order_);
  }

 private:
  int64_t num_ranks() const { return static_cast<int64_t>(positions_.size()); }

  bool is_done(int64_t rank) const { return positions_[rank] == schedule_.ranks[rank].size(); }

  bool is_done() const {
    for (int64_t rank = 0; rank < num_ranks(); ++rank) {
      if (!is_done(rank)) return false;
    }
    return true;
  }

  Step next_step(int64_t rank) const {
    const std::span<const Action> rest = std::span(schedule_.ranks[rank]).subspan(positions_[rank]);
    const size_t count = rest.front().overlaps_next && rest.size() > 1 ? 2 : 1;
    return {rank, static_cast<int64_t>(positions_[rank]), rest.first(count)};
  }

  std::optional<Value> missing(const Step& step) const {
    for (const Action& action : step.actions) {
      for (const Value& value : needs(action, schedule_.num_stages())) {
        if (made_.count(value) == 0) return value;
      }
    }
    return {};
  }

  // Runs the rank's list as far as it gets.
  void advance(int64_t rank) {
    while (!is_done(rank)) {
      const Step step = next_step(rank);
      if (missing(step)) return;
      for (const Action& action : step.actions) {
        if (const std::optional<Value> value = gives(action)) made_.insert(*value);
      }
      positions_[rank] += step.actions.size();
      order_.push_back(step);
    }
  }

  // The text "rank 0, position 2 (0B0) waits for the input gradient of stage 1, microbatch 0; ...".
  std::string waits() const {
    constexpr int64_t kMost = 8;
    std::string text;
    int64_t num_shown = 0;
    for (int64_t rank = 0; rank < num_ranks(); ++rank) {
      if (is_done(rank)) continue;
      if (num_shown++ == kMost) return text + "; and more";
      const Step step = next_step(rank);
      text += (text.empty() ? "" : "; ") + std::string("rank ") + std::to_string(rank) +
              ", position " + std::to_string(step.position) + " (" +
              to_string(step.actions.front()) + ") waits for " + describe(*missing(step));
    }
    return text;
  }

  const Schedule& schedule_;
  std::vector<size_t> positions_;
  std::set<Value> made_;
  std::vector<Step> order_;
};

}  // namespace

std::vector<Value> needs(const Action& action, int64_t num_stages) {
  const auto [kind, stage, microbatch, overlaps] = action;
  std::vector<Value> values;
  if (kind == ActionKind::kForward) {
    if (stage > 0) values.push_back({Value::Kind::kActivation, stage - 1, microbatch});
  } else if (is_input_backward(kind)) {
    values.push_back({Value::Kind::kActivation, stage, microbatch});
    if (stage + 1 < num_stages) values.push_back({Value::Kind::kGradient, stage + 1, microbatch});
  } else if (kind == ActionKind::kBackwardWeight) {
    values.push_back({Value::Kind::kGradient, stage, microbatch});
  }
  return values;
}

std::optional<Value> gives(const Action& action) {
  if (action.kind == ActionKind::kForward) {
    return Value{Value::Kind::kActivation, action.stage, action.microbatch};
  }
  if (is_input_backward(action.kind)) {
    return Value{Value::Kind::kGradient, action.stage, action.microbatch};
  }
  return {};
}

std::optional<int64_t> consumer_of(const Value& value, int64_t num_stages) {
  const int64_t stage = value.stage + (value.kind == Value::Kind::kActivation ? 1 : -1);
  if (stage < 0 || stage >= num_stages) return {};
  return stage;
}

std::vector<Step> replay_order(const Schedule& schedule) { return Replay(schedule).run(); }

}  // namespace tessera::pipeline
