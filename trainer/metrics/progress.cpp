#include "trainer/metrics/progress.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

double seconds_left(const ProgressState& state) {
  const int64_t num_done = state.step - state.first_step;
  if (num_done <= 0) return std::numeric_limits<double>::quiet_NaN();
  const int64_t num_left = std::max<int64_t>(state.num_steps - state.step, 0);
  return state.elapsed_s / static_cast<double>(num_done) * static_cast<double>(num_left);
}

}  // namespace

std::string progress_line(const ProgressState& state) {
  constexpr size_t kBarWidth = 20;
  const int64_t num_steps = std::max<int64_t>(state.num_steps, 1);
  const double done =
      std::clamp(static_cast<double>(state.step) / static_cast<double>(num_steps), 0.0, 1.0);
  // Rounded down: a full bar and 100% mean that the last step is done.
  const auto num_filled = static_cast<size_t>(done * kBarWidth);
  const std::string bar = pad_right(std::string(num_filled, '#'), kBarWidth);
  const std::string total = std::to_string(state.num_steps);
  return "step " + pad_left(std::to_string(state.step), total.size()) + "/" + total + " [" + bar +
         "] " + fixed(std::floor(100 * done), 0, 3) + "%  loss " + fixed(state.loss, 4) + "  " +
         with_commas(std::llround(state.tps)) + " tok/s  elapsed " + duration(state.elapsed_s) +
         "  ETA " + duration(seconds_left(state));
}

Progress::Progress(Logger log) : log_(std::move(log)) {}
Progress::~Progress() { clear(); }
void Progress::update(const ProgressState& state) const { log_.status(progress_line(state)); }
void Progress::clear() const { log_.status(""); }

}  // namespace tessera
