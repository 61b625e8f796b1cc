#include "trainer/pictures/loss_plot.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/pictures/loss_series.h"
#include "trainer/pictures/svg.h"
#include "trainer/support/output_dir.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

constexpr size_t kNumGroups = 1000;  // more than the plot has columns
constexpr const char* kRawColor = "#a9c8e8";
constexpr const char* kSmoothColor = "#175a9e";
constexpr const char* kGridColor = "#e4e7eb";
constexpr const char* kGapColor = "#d1242f";

struct Range {
  double low = 0;
  double high = 1;
};

// Maps steps and losses to places on the page.
struct Frame {
  double left, right, top, bottom;  // pixels
  Range steps, losses;

  double x(double step) const {
    return left + (step - steps.low) / (steps.high - steps.low) * (right - left);
  }
  double y(double loss) const {
    return bottom - (loss - losses.low) / (losses.high - losses.low) * (bottom - top);
  }
};

bool is_gap(const LossPoint& point) { return std::isnan(point.loss); }

std::string circle(double x, double y, double radius, const char* color) {
  return "<circle cx=\"" + svg_px(x) + "\" cy=\"" + svg_px(y) + "\" r=\"" + svg_px(radius) +
         "\" fill=\"" + color + "\"/>\n";
}

Range step_range(const LossSeries& series) {
  if (series.empty()) return {0, 1};
  const double first = series.front().step;
  const double last = series.back().step;
  return first < last ? Range{first, last} : Range{first - 1, last + 1};
}

// The range of the losses, with a margin. A single value, or values that differ by rounding alone,
// sit in the middle of a range that fits their size.
Range loss_range(const LossSeries& series) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const LossPoint& point : series) {
    if (is_gap(point)) continue;
    low = std::min(low, point.loss);
    high = std::max(high, point.loss);
  }
  if (low > high) return {0, 1};
  const double size = std::max(std::abs(low), std::abs(high));
  const bool flat = high - low <= 1e-9 * size;
  const double margin = flat ? (size > 0 ? 0.1 * size : 1) : 0.06 * (high - low);
  return {low - margin, high + margin};
}

std::string axes(const Frame& frame) {
  std::string svg;
  const Ticks loss_ticks =
      round_ticks(frame.losses.low, frame.losses.high, (frame.bottom - frame.top) / 55);
  for (const double loss : loss_ticks.values) {
    const double y = frame.y(loss);
    svg += svg_line(frame.left, y, frame.right, y, kGridColor, 1);
    svg += svg_text(frame.left - 8, y + 4, tick_label(loss, loss_ticks.spacing), {.anchor = "end"});
  }
  // No more ticks than whole steps: there are no half ones.
  const double num_steps = frame.steps.high - frame.steps.low;
  const double num_wanted = std::min((frame.right - frame.left) / 85, num_steps);
  const Ticks step_ticks = round_ticks(frame.steps.low, frame.steps.high, num_wanted);
  for (const double step : step_ticks.values) {
    const double x = frame.x(step);
    svg += svg_line(x, frame.top, x, frame.bottom, kGridColor, 1);
    svg +=
        svg_text(x, frame.bottom + 18, tick_label(step, step_ticks.spacing), {.anchor = "middle"});
  }
  svg += svg_line(frame.left, frame.bottom, frame.right, frame.bottom, kSvgAxisColor, 1.2);
  svg += svg_line(frame.left, frame.top, frame.left, frame.bottom, kSvgAxisColor, 1.2);
  const double middle_x = (frame.left + frame.right) / 2;
  const double middle_y = (frame.top + frame.bottom) / 2;
  svg += svg_text(middle_x, frame.bottom + 40, "step", {.anchor = "middle", .size = 13});
  const std::string turn = " transform=\"rotate(-90 18 " + svg_px(middle_y) + ")\"";
  svg += svg_text(18, middle_y, "loss", {.anchor = "middle", .size = 13, .extra = turn.c_str()});
  return svg;
}

// A polyline per stretch without gaps; a stretch of one point is a dot.
std::string curve(const Frame& frame, const LossSeries& series, const char* name, const char* color,
                  double width) {
  const LossSeries points = thinned(series, kNumGroups);
  std::string svg = std::string("<g class=\"") + name + "\" fill=\"none\" stroke=\"" + color +
                    "\" stroke-width=\"" + svg_px(width) + "\" stroke-linejoin=\"round\">\n";
  for (size_t begin = 0; begin < points.size(); ++begin) {
    size_t end = begin;
    std::string coordinates;
    for (; end < points.size() && !is_gap(points[end]); ++end) {
      coordinates += (end > begin ? " " : "") + svg_px(frame.x(points[end].step)) + "," +
                     svg_px(frame.y(points[end].loss));
    }
    if (end == begin + 1) {
      svg += circle(frame.x(points[begin].step), frame.y(points[begin].loss), width, color);
    } else if (end > begin) {
      svg += "<polyline points=\"" + coordinates + "\"/>\n";
    }
    begin = end;
  }
  return svg + "</g>\n";
}

// A short stroke on the axis for each step without a loss, at most one per pixel.
std::string gap_marks(const Frame& frame, const LossSeries& series) {
  std::string svg;
  double last_x = -1;
  for (const LossPoint& point : series) {
    const double x = std::round(frame.x(point.step));
    if (!is_gap(point) || x == last_x) continue;
    svg += svg_line(x, frame.bottom - 7, x, frame.bottom, kGapColor, 1);
    last_x = x;
  }
  return svg;
}

// First and last loss by value, on a white rim that keeps them readable over the curve. The first
// stands above its dot, or beside it where a steep curve starts at the rim; the last above its dot,
// or below it at the top.
std::string annotations(const Frame& frame, const LossSeries& series) {
  const auto first = std::find_if_not(series.begin(), series.end(), is_gap);
  if (first == series.end()) return "";
  const auto last = std::find_if_not(series.rbegin(), series.rend(), is_gap);
  constexpr const char* kRim =
      " font-weight=\"600\" stroke=\"#ffffff\" stroke-width=\"4\" paint-order=\"stroke\"";
  const double first_x = frame.x(first->step);
  const double first_y = frame.y(first->loss);
  const bool beside = first_y < frame.top + 50 || first_y > frame.bottom - 50;
  std::string svg = circle(first_x, first_y, 3.5, kSmoothColor) +
                    svg_text(first_x + 9, beside ? first_y + 4 : first_y - 10,
                             "start " + fixed(first->loss, 4), {.extra = kRim});
  if (first->step == last->step) return svg;
  const double last_x = frame.x(last->step);
  const double last_y = frame.y(last->loss);
  svg += circle(last_x, last_y, 3.5, kSmoothColor) +
         svg_text(last_x, last_y > frame.top + 50 ? last_y - 12 : last_y + 24,
                  "end " + fixed(last->loss, 4), {.anchor = "end", .extra = kRim});
  return svg;
}

struct LegendEntry {
  std::string label;
  const char* color;
  double width;
};

// The legend stands in a row above the plot, where it hides nothing. Text widths are estimated: a
// font is not at hand.
std::string legend(const Frame& frame, const std::vector<LegendEntry>& entries) {
  constexpr double kCharacterWidth = 6.9;
  std::string svg;
  double x = frame.left;
  const double y = frame.top - 14;
  for (const LegendEntry& entry : entries) {
    svg += svg_line(x, y, x + 26, y, entry.color, entry.width);
    svg += svg_text(x + 32, y + 4, entry.label, {});
    x += 32 + kCharacterWidth * static_cast<double>(entry.label.size()) + 22;
  }
  return svg;
}

}  // namespace

std::string loss_svg(const std::vector<StepRecord>& records, const PlotOptions& options) {
  TORCH_CHECK(options.width >= 300 && options.height >= 200, "the plot's size is ", options.width,
              " x ", options.height, ", expected at least 300 x 200");
  const LossSeries series = loss_series(records);
  const Frame frame{.left = 76,
                    .right = options.width - 44.0,
                    .top = 76,
                    .bottom = options.height - 58.0,
                    .steps = step_range(series),
                    .losses = loss_range(series)};
  std::string svg =
      svg_header({.width = options.width, .height = options.height, .title = options.title}) +
      axes(frame);
  svg += svg_text((frame.left + frame.right) / 2, 32, options.title,
                  {.anchor = "middle", .size = 17, .extra = " font-weight=\"600\""});
  const auto num_gaps = std::count_if(series.begin(), series.end(), is_gap);
  if (num_gaps == static_cast<int64_t>(series.size())) {
    const char* note = series.empty() ? "no steps recorded" : "no step has a finite loss";
    svg += svg_text((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2, note,
                    {.anchor = "middle", .size = 14, .color = kSvgAxisColor});
  }
  const size_t window = smoothing_window(series.size());
  // A short run has no smoothed line; then its own is the strong one.
  const LegendEntry raw{"loss of each step", window > 1 ? kRawColor : kSmoothColor, 1.2};
  std::vector<LegendEntry> entries = {raw};
  svg += curve(frame, series, "raw", raw.color, raw.width);
  if (window > 1) {
    const LegendEntry smooth{"centred mean of " + std::to_string(window) + " steps", kSmoothColor,
                             2.4};
    svg += curve(frame, centred_mean(series, window), "smooth", smooth.color, smooth.width);
    entries.push_back(smooth);
  }
  if (num_gaps > 0) {
    svg += gap_marks(frame, series);
    entries.push_back({with_commas(num_gaps) + " not finite", kGapColor, 1});
  }
  return svg + annotations(frame, series) + legend(frame, entries) + "</svg>\n";
}

void write_loss_svg(const std::string& path, const std::vector<StepRecord>& records,
                    const PlotOptions& options) {
  write_file_atomically(path, loss_svg(records, options));
}

}  // namespace tessera
