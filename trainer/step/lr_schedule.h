// The learning-rate schedule: warm-up, stable, decay. The rule is that of TorchTitan v0.2 (its
// `build_lr_schedulers`):
//
//   S = steps                          m = min_lr_factor
//   W = min(warmup_steps, S)           steps of warm-up
//   D = min(round(S * decay_ratio), S - W), without a ratio S - W      steps of decay
//   K = S + 1 - W - D                  stable steps
//
// The + 1 is a virtual step after the last, so the last real step is not at the end of the decay.
// The factor in the 0-based step s:
//
//   s < W         (s + 1) / W          m does not act on the warm-up
//   s < W + K     1
//   else          m + (1 - m) g(p),    p = min(s + 1 - W - K, D) / D, 1 throughout where D = 0
//
//   g(p) = 1 - p                       linear
//          1 - sqrt(p)                 sqrt
//          (1 + cos(pi p)) / 2         cosine
//
// round() takes halves to the even neighbour, as Python's does. All functions are pure.
//
//   const LrScheduleOptions options = {.steps = 10, .warmup_steps = 2, .decay_ratio = 0.8};
//   const double lr = base_lr * lr_factor(options, 3);   // base_lr * 0.875: W = 2, K = 1, D = 8
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tessera {

enum class DecayType { kLinear, kSqrt, kCosine };

// The type that lr_scheduler.decay_type names: "linear", "sqrt" or "cosine". Throws c10::Error
// naming the key for any other name. to_string is the inverse.
DecayType decay_type_from_string(std::string_view name);
std::string_view to_string(DecayType type);

// The keys of the configuration that the schedule depends on.
struct LrScheduleOptions {
  int64_t steps = 1;                       // training.steps
  int64_t warmup_steps = 0;                // lr_scheduler.warmup_steps; cut to `steps`
  std::optional<double> decay_ratio = {};  // lr_scheduler.decay_ratio: share of all steps
  DecayType type = DecayType::kLinear;     // lr_scheduler.decay_type
  double min_lr_factor = 0;                // lr_scheduler.min_lr_factor: where the decay ends
};

// The lengths W, K (at least 1) and D of the formulas at the top of this file, in steps. A caller
// that wants to warn of a shortened warm-up compares `warmup` with warmup_steps.
struct LrPhases {
  int64_t warmup = 0;
  int64_t stable = 0;
  int64_t decay = 0;
};

// lr_phases and lr_factor throw c10::Error naming the key for steps < 1, warmup_steps < 0, or a
// ratio or factor outside [0, 1]; lr_factor also for step0 < 0.
LrPhases lr_phases(const LrScheduleOptions& options);

// The factor on the base learning rate in step `step0`, which counts from 0: step n of the log is
// step0 = n - 1. From the virtual last step on it stays at the end of the schedule.
double lr_factor(const LrScheduleOptions& options, int64_t step0);

}  // namespace tessera
