#include "trainer/pictures/draw_schedule.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "parallel/pipeline/schedules/validate_schedule.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;
using pipeline::Action;
using pipeline::ActionKind;
using pipeline::TimedAction;

constexpr const char* kPlain = "\x1b[0m";

struct KindStyle {
  ActionKind kind;
  const char* color;  // black on it
  const char* meaning;
};

constexpr std::array<KindStyle, 4> kStyles = {
    {{ActionKind::kForward, "\x1b[30;46m", "forward"},
     {ActionKind::kBackward, "\x1b[30;42m", "backward"},
     {ActionKind::kBackwardInput, "\x1b[30;42m", "backward of the input"},
     {ActionKind::kBackwardWeight, "\x1b[30;43m", "backward of the weights"}}};

const KindStyle& style_of(ActionKind kind) {
  return *std::find_if(kStyles.begin(), kStyles.end(),
                       [&](const KindStyle& style) { return style.kind == kind; });
}

// The name of an action: "F0", or "2F0" where ranks have several stages.
std::string name_of(const Action& action, const ScheduleView& view) {
  if (view.schedule.num_stages() > view.schedule.num_ranks()) return to_string(action);
  return pipeline::letters_of(action.kind) + std::to_string(action.microbatch);
}

// An action of a rank from one time to another; an overlapped pair is one slot.
struct Slot {
  std::string name;     // "F1", of a pair "F1+B0"
  std::string letters;  // "F", of a pair "FB"
  ActionKind kind;
  double start;
  double end;
};

std::vector<Slot> slots_of(const ScheduleView& view, int64_t rank) {
  std::vector<Slot> slots;
  bool overlaps = false;
  for (const TimedAction& timed : view.run.ranks[rank].actions) {
    const std::string name = name_of(timed.action, view);
    const char* letter = pipeline::letters_of(timed.action.kind);
    if (overlaps) {
      slots.back().name += "+" + name;
      slots.back().letters += letter;
    } else {
      slots.push_back({name, letter, timed.action.kind, timed.start, timed.end});
    }
    overlaps = timed.action.overlaps_next;
  }
  return slots;
}

// The columns that a unit of time takes, and what a slot shows in them.
struct Layout {
  enum class Style {
    kNames,    // "B0--- ", a blank between slots
    kLetters,  // "B-", one after the other
    kSamples,  // what runs in the middle of each column
  };
  Style style = Style::kSamples;
  int64_t columns_per_unit = 0;
};

// The most telling style that has room for every slot.
Layout choose_layout(const ScheduleView& view, int64_t room) {
  double for_names = 1;
  double for_letters = 1;
  for (int64_t rank = 0; rank < view.schedule.num_ranks(); ++rank) {
    for (const Slot& slot : slots_of(view, rank)) {
      const double time = slot.end - slot.start;
      if (time <= 0) return {};
      for_names = std::max(for_names, static_cast<double>(slot.name.size() + 1) / time);
      for_letters = std::max(for_letters, 1 / time);
    }
  }
  const double most = std::floor(static_cast<double>(room) / view.run.makespan);
  if (most >= std::ceil(for_names)) {
    return {Layout::Style::kNames, static_cast<int64_t>(std::ceil(for_names))};
  }
  if (most >= std::ceil(for_letters)) return {Layout::Style::kLetters, static_cast<int64_t>(most)};
  return {};
}

std::string painted(const std::string& text, ActionKind kind, bool color) {
  return color ? style_of(kind).color + text + kPlain : text;
}

// The line of a rank whose slots run from column to column.
std::string slot_line(const ScheduleView& view, int64_t rank, const Layout& layout, bool color) {
  const bool has_names = layout.style == Layout::Style::kNames;
  const auto column = [&](double time) {
    return static_cast<int64_t>(std::lround(time * static_cast<double>(layout.columns_per_unit)));
  };
  std::string line;
  int64_t at = 0;
  const auto idle_until = [&](int64_t end) {
    for (const int64_t begin = at; at < end; ++at) {
      const bool is_blank = has_names && ((at - begin) % 2 == 1 || at + 1 == end);
      line += is_blank ? " " : "·";
    }
  };
  for (const Slot& slot : slots_of(view, rank)) {
    idle_until(column(slot.start));
    at = column(slot.end);
    const int64_t width = at - column(slot.start) - (has_names ? 1 : 0);
    std::string text = has_names ? slot.name : slot.letters;
    text.resize(width, color ? ' ' : '-');
    line += painted(text, slot.kind, color) + (has_names ? " " : "");
  }
  idle_until(column(view.run.makespan));
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

// The line of a rank that shows, in each column, what runs in its middle.
std::string sampled_line(const ScheduleView& view, int64_t rank, int64_t columns, bool color) {
  const std::vector<Slot> slots = slots_of(view, rank);
  std::string line;
  size_t next = 0;
  for (int64_t column = 0; column < columns; ++column) {
    const double time =
        (static_cast<double>(column) + 0.5) * view.run.makespan / static_cast<double>(columns);
    while (next < slots.size() && slots[next].end <= time) ++next;
    const bool is_busy = next < slots.size() && slots[next].start <= time;
    if (is_busy) {
      const Slot& slot = slots[next];
      const char letter = slot.letters[column % slot.letters.size()];
      line += painted(std::string(1, letter), slot.kind, color);
    } else {
      line += "·";
    }
  }
  return line;
}

template <typename F>
bool any_action(const ScheduleView& view, F matches) {
  const auto& ranks = view.schedule.ranks;
  return std::any_of(ranks.begin(), ranks.end(), [&](const std::vector<Action>& actions) {
    return std::any_of(actions.begin(), actions.end(), matches);
  });
}

std::string legend(const ScheduleView& view, bool color) {
  std::string text;
  for (const KindStyle& style : kStyles) {
    if (!any_action(view, [&](const Action& action) { return action.kind == style.kind; }))
      continue;
    text +=
        painted(pipeline::letters_of(style.kind), style.kind, color) + " " + style.meaning + "  ";
  }
  if (any_action(view, [](const Action& action) { return action.overlaps_next; })) {
    text += "FB a pair, interleaved  ";
  }
  return text + "· idle\n";
}

ordered_json rank_json(const ScheduleView& view, int64_t rank) {
  ordered_json actions = ordered_json::array();
  for (const TimedAction& timed : view.run.ranks[rank].actions) {
    actions.push_back({to_string(timed.action), timed.start, timed.end});
  }
  return {{"rank", rank},
          {"stages", view.schedule.placement.stages_of(rank)},
          {"idle_share", view.run.ranks[rank].idle_share},
          {"peak_live", view.peak_live[rank]},
          {"actions", std::move(actions)}};
}

}  // namespace

ScheduleView view_schedule(const pipeline::Schedule& schedule, const pipeline::ActionCosts& costs) {
  validate_schedule(schedule);
  return {.schedule = schedule,
          .costs = costs,
          .run = simulate_schedule(schedule, costs),
          .peak_live = peak_live_microbatches(schedule)};
}

std::string time_text(double time) {
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), time,
                                    std::chars_format::general, 6);
  return {buffer.data(), result.ptr};
}

std::string schedule_summary(const ScheduleView& view) {
  const int64_t peak = *std::max_element(view.peak_live.begin(), view.peak_live.end());
  return view.schedule.name + ": " + with_commas(view.schedule.num_ranks()) + " ranks, " +
         with_commas(view.schedule.num_stages()) + " stages, " +
         with_commas(view.schedule.num_microbatches) + " microbatches\nmakespan " +
         time_text(view.run.makespan) + ", bubble " + fixed(100 * view.run.idle_share, 2) +
         "%, at most " + with_commas(peak) + " live microbatches\n";
}

std::string schedule_timeline(const ScheduleView& view, const TimelineOptions& options) {
  constexpr int64_t kMargin = 17;
  const int64_t room = std::max<int64_t>(options.columns - kMargin, 20);
  const Layout layout = choose_layout(view, room);
  std::string text = "rank  idle  live\n";
  for (int64_t rank = 0; rank < view.schedule.num_ranks(); ++rank) {
    text += pad_left(std::to_string(rank), 4) + fixed(100 * view.run.ranks[rank].idle_share, 0, 5) +
            "%" + pad_left(std::to_string(view.peak_live[rank]), 6) + " │";
    text += layout.style == Layout::Style::kSamples ? sampled_line(view, rank, room, options.color)
                                                    : slot_line(view, rank, layout, options.color);
    text += "\n";
  }
  return text + legend(view, options.color);
}

std::string schedule_json(const ScheduleView& view) {
  const pipeline::ActionCosts& costs = view.costs;
  ordered_json report = {{"schedule", view.schedule.name},
                         {"ranks", view.schedule.num_ranks()},
                         {"stages", view.schedule.num_stages()},
                         {"microbatches", view.schedule.num_microbatches},
                         {"makespan", view.run.makespan},
                         {"idle_share", view.run.idle_share},
                         {"costs",
                          {{"forward", costs.forward},
                           {"backward", costs.backward},
                           {"backward_input", costs.backward_input},
                           {"backward_weight", costs.backward_weight},
                           {"transfer", costs.transfer}}}};
  if (costs.overlapped) report["costs"]["overlapped"] = *costs.overlapped;
  ordered_json ranks = ordered_json::array();
  for (int64_t rank = 0; rank < view.schedule.num_ranks(); ++rank) {
    ranks.push_back(rank_json(view, rank));
  }
  report["per_rank"] = std::move(ranks);
  return report.dump() + "\n";
}

}  // namespace tessera
