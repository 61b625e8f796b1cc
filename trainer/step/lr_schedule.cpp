#include "trainer/step/lr_schedule.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera {
namespace {

void check(const LrScheduleOptions& options) {
  TORCH_CHECK(options.steps >= 1, "training.steps is ", options.steps, ", expected at least 1");
  TORCH_CHECK(options.warmup_steps >= 0, "lr_scheduler.warmup_steps is ", options.warmup_steps,
              ", expected at least 0");
  if (options.decay_ratio) {
    const double ratio = *options.decay_ratio;
    TORCH_CHECK(ratio >= 0 && ratio <= 1, "lr_scheduler.decay_ratio is ", ratio,
                ", expected a number from 0 to 1");
  }
  const double floor = options.min_lr_factor;
  TORCH_CHECK(floor >= 0 && floor <= 1, "lr_scheduler.min_lr_factor is ", floor,
              ", expected a number from 0 to 1");
}

double decay_curve(DecayType type, double progress) {
  switch (type) {
    case DecayType::kLinear:
      return 1 - progress;
    case DecayType::kSqrt:
      return 1 - std::sqrt(progress);
    case DecayType::kCosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  TORCH_INTERNAL_ASSERT(false, "unknown decay type");
}

}  // namespace

DecayType decay_type_from_string(std::string_view name) {
  if (name == "linear") return DecayType::kLinear;
  if (name == "sqrt") return DecayType::kSqrt;
  if (name == "cosine") return DecayType::kCosine;
  TORCH_CHECK(false, "lr_scheduler.decay_type is \"", name,
              "\", expected \"linear\", \"sqrt\" or \"cosine\"");
}

std::string_view to_string(DecayType type) {
  switch (type) {
    case DecayType::kLinear:
      return "linear";
    case DecayType::kSqrt:
      return "sqrt";
    case DecayType::kCosine:
      return "cosine";
  }
  TORCH_INTERNAL_ASSERT(false, "unknown decay type");
}

LrPhases lr_phases(const LrScheduleOptions& options) {
  check(options);
  LrPhases phases;
  phases.warmup = std::min(options.warmup_steps, options.steps);
  phases.decay = options.steps - phases.warmup;
  if (options.decay_ratio) {
    // nearbyint rounds halves to even, like Python's round.
    const double wanted = std::nearbyint(static_cast<double>(options.steps) * *options.decay_ratio);
    phases.decay = std::min(static_cast<int64_t>(wanted), phases.decay);
  }
  phases.stable = options.steps + 1 - phases.warmup - phases.decay;
  return phases;
}

double lr_factor(const LrScheduleOptions& options, int64_t step0) {
  TORCH_CHECK(step0 >= 0, "step0 is ", step0, ", expected at least 0");
  const LrPhases phases = lr_phases(options);
  if (step0 < phases.warmup) {
    return static_cast<double>(step0 + 1) / static_cast<double>(phases.warmup);
  }
  const int64_t num_flat = phases.warmup + phases.stable;
  if (step0 < num_flat || phases.decay == 0) return 1;
  const int64_t num_decayed = std::min(step0 + 1 - num_flat, phases.decay);
  const double progress = static_cast<double>(num_decayed) / static_cast<double>(phases.decay);
  return options.min_lr_factor + (1 - options.min_lr_factor) * decay_curve(options.type, progress);
}

}  // namespace tessera
