#include "trainer/pictures/schedule_svg.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "data/files/durable_file.h"
#include "trainer/pictures/svg.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

using pipeline::ActionKind;
using pipeline::TimedAction;

// Sizes in pixels.
constexpr double kLeft = 66;
constexpr double kTop = 92;
constexpr double kRowHeight = 30;
constexpr double kRowGap = 6;
constexpr double kNotes = 134;  // right of the plot
constexpr const char* kIdleColor = "#eef1f4";
constexpr const char* kLightText = "#ffffff";

using Rgb = std::array<int, 3>;

struct KindStyle {
  ActionKind kind;
  Rgb color;
  const char* text_color;
  const char* label;
};

constexpr std::array<KindStyle, 4> kStyles = {
    {{ActionKind::kForward, {0x17, 0x5a, 0x9e}, kLightText, "forward"},
     {ActionKind::kBackward, {0x2d, 0x7d, 0x46}, kLightText, "backward"},
     {ActionKind::kBackwardInput, {0x1b, 0x8a, 0x8f}, kLightText, "backward of the input"},
     {ActionKind::kBackwardWeight, {0xf0, 0xa6, 0x3a}, kSvgTextColor, "of the weights"}}};

const KindStyle& style_of(ActionKind kind) {
  return *std::find_if(kStyles.begin(), kStyles.end(),
                       [&](const KindStyle& style) { return style.kind == kind; });
}

std::string hex(const Rgb& color) {
  std::array<char, 8> text;
  std::snprintf(text.data(), text.size(), "#%02x%02x%02x", color[0], color[1], color[2]);
  return text.data();
}

// `color`, the lighter the later the stage is among the rank's: half way to white for the last.
std::string shade(const Rgb& color, int64_t local_stage, int64_t num_local) {
  const double share =
      num_local > 1 ? 0.5 * static_cast<double>(local_stage) / static_cast<double>(num_local - 1)
                    : 0;
  Rgb mixed{};
  for (size_t i = 0; i < mixed.size(); ++i) {
    mixed[i] = static_cast<int>(std::lround(color[i] + share * (255 - color[i])));
  }
  return hex(mixed);
}

class Figure {
 public:
  explicit Figure(const ScheduleView& view)
      : view_(view), width_(std::clamp(view.run.makespan * 22, 480.0, 1200.0)) {}

  std::string draw() const {
    const std::string details = subtitle();
    const SvgPage page{.width = static_cast<int>(kLeft + width_ + kNotes),
                       .height = static_cast<int>(bottom() + 52),
                       .title = view_.schedule.name + ": " + details};
    std::string svg = svg_header(page);
    svg += svg_text(kLeft, 28, view_.schedule.name, {.size = 15, .extra = " font-weight=\"600\""});
    svg += svg_text(kLeft, 48, details, {.size = 13, .color = kSvgAxisColor}) + legend();
    for (int64_t rank = 0; rank < view_.schedule.num_ranks(); ++rank) svg += row(rank);
    return svg + axis() + "</svg>\n";
  }

 private:
  double x(double time) const {
    const double makespan = view_.run.makespan;
    return kLeft + (makespan > 0 ? time / makespan * width_ : 0);
  }
  double y(int64_t rank) const { return kTop + static_cast<double>(rank) * (kRowHeight + kRowGap); }
  double bottom() const { return y(view_.schedule.num_ranks()) - kRowGap; }

  std::string subtitle() const {
    return std::to_string(view_.schedule.num_ranks()) + " ranks, " +
           std::to_string(view_.schedule.num_stages()) + " stages, " +
           std::to_string(view_.schedule.num_microbatches) + " microbatches: makespan " +
           time_text(view_.run.makespan) + ", bubble " + fixed(100 * view_.run.idle_share, 1) + "%";
  }

  std::string legend() const {
    constexpr double kCharacter = 6.4;
    constexpr double kY = 70;
    std::string svg = "<g class=\"legend\">\n";
    double at = kLeft;
    const auto entry = [&](const std::string& label, const std::string& color) {
      svg += svg_rect({at, kY - 6, 12, 12}, color) + svg_text(at + 18, kY + 4, label, {});
      at += 18 + kCharacter * static_cast<double>(label.size()) + 16;
    };
    for (const KindStyle& style : kStyles) {
      if (uses(style.kind)) entry(style.label, hex(style.color));
    }
    entry("idle", kIdleColor);
    if (view_.schedule.num_stages() > view_.schedule.num_ranks()) {
      svg += svg_text(at, kY + 4, "(lighter: later stages of the rank)", {.color = kSvgAxisColor});
    }
    return svg + "</g>\n";
  }

  bool uses(ActionKind kind) const {
    for (const auto& rank : view_.run.ranks) {
      for (const TimedAction& timed : rank.actions) {
        if (timed.action.kind == kind) return true;
      }
    }
    return false;
  }

  std::string row(int64_t rank) const {
    const pipeline::SimulatedRank& timed_rank = view_.run.ranks[rank];
    const double middle = y(rank) + kRowHeight / 2 + 4;
    std::string svg =
        "<g class=\"rank\">\n" +
        svg_text(kLeft - 10, middle, "rank " + std::to_string(rank), {.anchor = "end"}) +
        svg_rect({kLeft, y(rank), width_, kRowHeight}, kIdleColor);
    bool is_second = false;  // of an overlapped pair
    for (const TimedAction& timed : timed_rank.actions) {
      const bool is_half = is_second || timed.action.overlaps_next;
      svg += action(timed, rank, is_half ? kRowHeight / 2 : kRowHeight,
                    y(rank) + (is_second ? kRowHeight / 2 : 0));
      is_second = timed.action.overlaps_next;
    }
    return svg +
           svg_text(kLeft + width_ + 10, middle,
                    fixed(100 * timed_rank.idle_share, 0) + "% idle, " +
                        std::to_string(view_.peak_live[rank]) + " live",
                    {.color = kSvgAxisColor}) +
           "</g>\n";
  }

  std::string action(const TimedAction& timed, int64_t rank, double height, double top) const {
    const KindStyle& style = style_of(timed.action.kind);
    const std::vector<int64_t> stages = view_.schedule.placement.stages_of(rank);
    const int64_t local =
        std::find(stages.begin(), stages.end(), timed.action.stage) - stages.begin();
    const auto num_local = static_cast<int64_t>(stages.size());
    const double begin = x(timed.start);
    const double size = x(timed.end) - begin;
    // Half a pixel of the row's ground keeps neighbours apart.
    const double gap = std::min(0.5, size / 8);
    std::string svg = svg_rect({begin + gap, top + 0.5, size - 2 * gap, height - 1},
                               shade(style.color, local, num_local));
    const std::string microbatch = std::to_string(timed.action.microbatch);
    if (size >= 7 * static_cast<double>(microbatch.size()) + 3) {
      svg += svg_text(begin + size / 2, top + height / 2 + 3.8, microbatch,
                      {.anchor = "middle",
                       .size = 11,
                       .color = 2 * local > num_local - 1 ? kSvgTextColor : style.text_color});
    }
    return svg;
  }

  // The time axis, with ticks at multiples of 1, 2 or 5 times a power of ten.
  std::string axis() const {
    constexpr double kPixelsApart = 56;
    const double makespan = view_.run.makespan;
    std::string svg = svg_text(kLeft + width_ / 2, bottom() + 42, "time", {.anchor = "middle"});
    if (makespan <= 0) return svg;
    const double least = kPixelsApart * makespan / width_;
    const double power = std::pow(10, std::floor(std::log10(least)));
    double step = 10 * power;
    for (const double factor : {5.0, 2.0, 1.0}) {
      if (factor * power >= least) step = factor * power;
    }
    for (int64_t i = 0; static_cast<double>(i) * step <= makespan * (1 + 1e-9); ++i) {
      const double time = static_cast<double>(i) * step;
      svg += svg_line(x(time), bottom() + 2, x(time), bottom() + 7, kSvgAxisColor, 1) +
             svg_text(x(time), bottom() + 21, time_text(time),
                      {.anchor = "middle", .color = kSvgAxisColor});
    }
    return svg;
  }

  const ScheduleView& view_;
  double width_;  // of the plot
};

}  // namespace

std::string schedule_svg(const ScheduleView& view) { return Figure(view).draw(); }

void write_schedule_svg(const std::string& path, const ScheduleView& view) {
  try {
    write_durable_file(path, schedule_svg(view));
  } catch (c10::Error& error) {
    error.add_context("--svg: " + path);
    throw;
  }
}

}  // namespace tessera
