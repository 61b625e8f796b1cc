// Internal to parallel/pipeline/: the values that the actions of a schedule hand to each other, for
// the schedule's validator, simulator and communication.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

// A stage's output for a microbatch, or the gradient of its input.
struct Value {
  enum class Kind { kActivation, kGradient };
  Kind kind = Kind::kActivation;
  int64_t stage = 0;  // that makes it
  int64_t microbatch = 0;
  auto operator<=>(const Value&) const = default;
};

// The values that a compute action must have before it starts.
std::vector<Value> needs(const Action& action, int64_t num_stages);

// The value that a compute action makes; none for W, as the gradients of weights stay where they
// are.
std::optional<Value> gives(const Action& action);

// The stage that a value is for; none for the last output and the first gradient.
std::optional<int64_t> consumer_of(const Value& value, int64_t num_stages);

// One action, or two that overlap and so start and end as one.
struct Step {
  int64_t rank = 0;
  int64_t position = 0;  // of the first action, in the rank's list
  std::span<const Action> actions = {};
};

// All steps of all ranks in an order in which each comes after the steps that make what it needs:
// each rank runs its list in order, receives block, sends do not. Throws c10::Error that shows who
// waits for what when there is no such order.
std::vector<Step> replay_order(const Schedule& schedule);

}  // namespace tessera::pipeline
