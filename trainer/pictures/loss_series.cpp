#include "trainer/pictures/loss_series.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

constexpr double kGap = std::numeric_limits<double>::quiet_NaN();
constexpr double kLargestLoss = 1e300;  // sums and axis ranges stay finite

// One past the end of the longest run of points without a gap that starts at `begin`.
size_t end_of_run(const LossSeries& series, size_t begin) {
  while (begin < series.size() && !std::isnan(series[begin].loss)) ++begin;
  return begin;
}

void smooth_run(const LossSeries& series, size_t begin, size_t end, size_t window,
                LossSeries& smooth) {
  std::vector<double> sums(1, 0.0);  // sums[i] is that of the first i losses
  for (size_t i = begin; i < end; ++i) sums.push_back(sums.back() + series[i].loss);
  for (size_t i = begin; i < end; ++i) {
    const size_t back = std::min(window / 2, i - begin);
    const size_t ahead = std::min(back, end - 1 - i);
    const double sum = sums[i + ahead + 1 - begin] - sums[i - back - begin];
    // A window of one is the loss itself, free of the rounding of the sums.
    smooth[i].loss = back == 0 ? series[i].loss : sum / static_cast<double>(back + ahead + 1);
  }
}

void append_extremes(const LossSeries& series, size_t begin, size_t end, LossSeries& out) {
  size_t least = end;
  size_t largest = end;
  for (size_t i = begin; i < end; ++i) {
    if (std::isnan(series[i].loss)) continue;
    if (least == end || series[i].loss < series[least].loss) least = i;
    if (largest == end || series[i].loss > series[largest].loss) largest = i;
  }
  if (least == end) {
    out.push_back({series[begin].step, kGap});
    return;
  }
  out.push_back(series[std::min(least, largest)]);
  if (least != largest) out.push_back(series[std::max(least, largest)]);
}

}  // namespace

LossSeries loss_series(const std::vector<StepRecord>& records) {
  LossSeries series;
  series.reserve(records.size());
  for (const StepRecord& record : records) {
    const bool drawable = std::abs(record.loss) <= kLargestLoss;
    series.push_back({static_cast<double>(record.step), drawable ? record.loss : kGap});
  }
  const auto earlier = [](const LossPoint& a, const LossPoint& b) { return a.step < b.step; };
  std::stable_sort(series.begin(), series.end(), earlier);
  return series;
}

size_t smoothing_window(size_t num_points) {
  if (num_points < 5) return 1;
  return std::clamp<size_t>(num_points / 20, 5, 501) | 1;
}

LossSeries centred_mean(const LossSeries& series, size_t window) {
  LossSeries smooth = series;
  for (size_t begin = 0; begin < series.size();) {
    const size_t end = end_of_run(series, begin);
    smooth_run(series, begin, end, window, smooth);
    begin = end + 1;
  }
  return smooth;
}

LossSeries thinned(const LossSeries& series, size_t num_groups) {
  if (series.size() <= 2 * num_groups + 2) return series;
  LossSeries out = {series.front()};
  const size_t num_inner = series.size() - 2;
  for (size_t group = 0; group < num_groups; ++group) {
    const size_t begin = 1 + group * num_inner / num_groups;
    const size_t end = 1 + (group + 1) * num_inner / num_groups;
    append_extremes(series, begin, end, out);
  }
  out.push_back(series.back());
  return out;
}

Ticks round_ticks(double low, double high, double num_wanted) {
  const double rough = (high - low) / num_wanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double digits = rough / power;
  Ticks ticks;
  // Between two spacings the nearer one in ratio: the bounds are the roots of 2, 10 and 50.
  ticks.spacing = power * (digits < 1.414 ? 1 : digits < 3.162 ? 2 : digits < 7.071 ? 5 : 10);
  // Whole multiples, with room for their rounding, rather than a running sum that drifts.
  const double first = std::ceil(low / ticks.spacing - 1e-9);
  const double last = std::floor(high / ticks.spacing + 1e-9);
  for (double multiple = first; multiple <= last; ++multiple) {
    ticks.values.push_back(multiple * ticks.spacing + 0.0);  // + 0.0: no "-0"
  }
  return ticks;
}

std::string tick_label(double value, double spacing) {
  const double largest = std::max(std::abs(value), spacing);
  if (largest >= 1e9 || spacing < 1e-6) {
    std::array<char, 32> buffer;
    const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                            std::chars_format::general, 6);
    return {buffer.data(), error == std::errc() ? end : buffer.data()};
  }
  if (spacing >= 1) return with_commas(std::llround(value));
  return fixed(value, static_cast<int>(std::ceil(-std::log10(spacing) - 1e-9)));
}

}  // namespace tessera
