// What loss_plot.h draws, before it is drawn: points, smoothing, thinning and axis ticks. Pure
// functions. Internal to trainer/pictures/.
//
//   const LossSeries series = loss_series(records);
//   const LossSeries mean = centred_mean(series, smoothing_window(series.size()));
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/metrics/metrics.h"

namespace tessera {

// A step and its loss; NaN where there is a gap.
struct LossPoint {
  double step = 0;
  double loss = 0;
};

using LossSeries = std::vector<LossPoint>;

// The losses in order of steps. A loss that is not finite, or too large to draw (beyond 1e300),
// becomes NaN.
LossSeries loss_series(const std::vector<StepRecord>& records);

// The odd number of steps over which a series of `num_points` is smoothed: about a twentieth, 5 to
// 501; 1 (none) below 5.
size_t smoothing_window(size_t num_points);

// The mean over `window` points around each point; window is odd. Near the start, where losses fall
// steeply, the window shrinks on both sides alike, so the curve begins on the first loss; near the
// end it only loses its later half. No value crosses a gap, and near a gap the window shrinks as
// near the start and the end.
LossSeries centred_mean(const LossSeries& series, size_t window);

// At most 2 * num_groups + 2 points with the same outline: the least and the largest of each of
// `num_groups` groups of neighbours, in their order, and always the first and the last point. A
// group without any value is a gap.
LossSeries thinned(const LossSeries& series, size_t num_groups);

// Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], low < high, about
// `num_wanted` of them.
struct Ticks {
  std::vector<double> values;
  double spacing = 1;
};
Ticks round_ticks(double low, double high, double num_wanted);

// `value` with as many decimals as ticks `spacing` apart need: "2.5", "1,000", "1e+30".
std::string tick_label(double value, double spacing);

}  // namespace tessera
