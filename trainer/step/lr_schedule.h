// The learning-rate schedule: warm-up, stable, decay. TorchTitan v0.2's rule (its
// `build_lr_schedulers`):
//
//   S steps in all, W = min(warmup_steps, S), D = round(S * decay_ratio) but at most S - W (all of
//   S - W without a ratio), K = S + 1 - W - D stable steps. The +1 is a virtual step after the
//   last, so the last real one is not at the end of the decay. At the 0-based step s:
//     s < W        (s + 1) / W                              min_lr_factor does not act on the
//     warm-up s < W + K    1 else         m + (1 - m) g(p), p = (s + 1 - W - K) / D, g = 1 - p | 1
//     - sqrt(p) | (1 + cos(pi p)) / 2
//
// Halves round to even, as Python's round() does. Pure functions.
//
//   const double lr = base_lr * lr_factor({.steps = 10, .warmup_steps = 2, .decay_ratio = 0.8}, 3);
//   // * 0.875
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tessera {

enum class DecayType { kLinear, kSqrt, kCosine };

// "linear", "sqrt" or "cosine"; throws c10::Error naming lr_scheduler.decay_type otherwise.
DecayType decay_type_from_string(std::string_view name);
std::string_view to_string(DecayType type);

struct LrScheduleOptions {
  int64_t steps = 1;         // training.steps
  int64_t warmup_steps = 0;  // lr_scheduler.warmup_steps; more than `steps` is shortened
  std::optional<double> decay_ratio =
      {};  // lr_scheduler.decay_ratio: share of all steps that decay
  DecayType type = DecayType::kLinear;
  double min_lr_factor = 0;  // lr_scheduler.min_lr_factor: where the decay ends
};

// The lengths above: W, K (at least 1) and D. A caller that wants to warn compares `warmup` with
// what was asked for.
struct LrPhases {
  int64_t warmup = 0;
  int64_t stable = 0;
  int64_t decay = 0;
};

// Both throw c10::Error naming the key for steps < 1, warmup_steps < 0, or a ratio or factor
// outside [0, 1].
LrPhases lr_phases(const LrScheduleOptions& options);

// The factor on the base learning rate in step `step0`, counted from 0 (so step n of the log is n -
// 1). From the virtual last step on, the end of the schedule.
double lr_factor(const LrScheduleOptions& options, int64_t step0);

}  // namespace tessera
