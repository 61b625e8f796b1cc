#include "parallel/pipeline/schedules/schedule_csv.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

namespace tessera::pipeline {
namespace {

constexpr int64_t kMostStages = 100'000;  // and microbatches
constexpr std::string_view kOverlapOpen = "(";
constexpr std::string_view kOverlapClose = ")OVERLAP_F_B";

struct Place {
  int64_t line = 0;
  int64_t cell = 0;
};

std::string to_string(const Place& place) {
  return "line " + std::to_string(place.line) + ", cell " + std::to_string(place.cell);
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t end = text.find(separator); end != text.npos; end = text.find(separator)) {
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  parts.push_back(text);
  return parts;
}

std::string excerpt(std::string_view text) {
  constexpr size_t kMost = 40;
  std::string shown(text.substr(0, kMost));
  if (text.size() > kMost) shown.append("...");
  return shown;
}

// Takes a number off the front of `text`.
std::optional<int64_t> take_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number < 0) return {};
  text.remove_prefix(end - text.data());
  return number;
}

bool is_derived(std::string_view letters) {
  return letters.starts_with("SEND_") || letters.starts_with("RECV_") || letters == "REDUCE_GRAD";
}

std::optional<ActionKind> compute_kind(std::string_view letters) {
  for (const ActionKind kind : {ActionKind::kForward, ActionKind::kBackward,
                                ActionKind::kBackwardInput, ActionKind::kBackwardWeight}) {
    if (letters == letters_of(kind)) return kind;
  }
  return {};
}

// Parses an action such as "2I0".
Action parse_action(std::string_view text, const Place& place) {
  std::string_view rest = text;
  const std::optional<int64_t> stage = take_number(rest);
  const size_t num_letters = std::min(rest.find_first_of("0123456789"), rest.size());
  const std::string_view letters = rest.substr(0, num_letters);
  rest.remove_prefix(num_letters);
  TORCH_CHECK(!is_derived(letters), to_string(place), ": \"", excerpt(text),
              "\" is communication, which is derived; a schedule holds F, B, I and W");
  const std::optional<ActionKind> kind = compute_kind(letters);
  const std::optional<int64_t> microbatch = take_number(rest);
  TORCH_CHECK(stage && kind && microbatch && rest.empty(), to_string(place), ": \"", excerpt(text),
              "\" is no action, expected stage, F, B, I or W, and microbatch, such as 2I0");
  TORCH_CHECK(*stage < kMostStages && *microbatch < kMostStages, to_string(place), ": \"",
              excerpt(text), "\" is out of range, expected stage and microbatch below ",
              kMostStages);
  return {*kind, *stage, *microbatch};
}

// Parses a cell such as "2I0" or "(0F4;7B0)OVERLAP_F_B", or an empty one.
void parse_cell(std::string_view cell, const Place& place, std::vector<Action>& actions) {
  if (cell.empty()) return;
  if (!cell.starts_with(kOverlapOpen)) {
    actions.push_back(parse_action(cell, place));
    return;
  }
  const bool is_closed = cell.ends_with(kOverlapClose);
  std::vector<std::string_view> pair;
  if (is_closed) {
    cell.remove_prefix(kOverlapOpen.size());
    cell.remove_suffix(kOverlapClose.size());
    pair = split(cell, ';');
  }
  TORCH_CHECK(is_closed && pair.size() == 2, to_string(place), ": \"", excerpt(cell),
              "\" is no pair, expected a forward and a backward, such as (0F4;7B0)OVERLAP_F_B");
  Action first = parse_action(trimmed(pair[0]), place);
  first.overlaps_next = true;
  actions.push_back(first);
  actions.push_back(parse_action(trimmed(pair[1]), place));
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines = split(text, '\n');
  while (!lines.empty() && trimmed(lines.back()).empty()) lines.pop_back();
  TORCH_CHECK(!lines.empty(), "no actions, expected one line per rank");
  return lines;
}

// Fills sizes and placement from the actions of the ranks.
void infer_shape(Schedule& schedule) {
  int64_t num_stages = 0;
  for (const std::vector<Action>& actions : schedule.ranks) {
    for (const Action& action : actions) {
      num_stages = std::max(num_stages, action.stage + 1);
      schedule.num_microbatches = std::max(schedule.num_microbatches, action.microbatch + 1);
    }
  }
  schedule.placement.num_ranks = static_cast<int64_t>(schedule.ranks.size());
  std::vector<int64_t>& rank_of_stage = schedule.placement.rank_of_stage;
  rank_of_stage.assign(num_stages, -1);
  for (int64_t rank = 0; rank < schedule.num_ranks(); ++rank) {
    for (const Action& action : schedule.ranks[rank]) {
      if (rank_of_stage[action.stage] < 0) rank_of_stage[action.stage] = rank;
    }
  }
  const auto absent = std::find(rank_of_stage.begin(), rank_of_stage.end(), -1);
  TORCH_CHECK(absent == rank_of_stage.end(), "stage ", absent - rank_of_stage.begin(),
              " has no actions, expected all of the stages 0 to ", num_stages - 1);
}

}  // namespace

Schedule read_schedule_csv(std::string_view text) {
  Schedule schedule{.name = "CSV"};
  int64_t line_number = 0;
  for (const std::string_view line : lines_of(text)) {
    Place place{.line = ++line_number};
    std::vector<Action> actions;
    for (const std::string_view cell : split(line, ',')) {
      ++place.cell;
      parse_cell(trimmed(cell), place, actions);
    }
    TORCH_CHECK(!actions.empty(), "line ", line_number, " has no actions, expected those of rank ",
                line_number - 1);
    schedule.ranks.push_back(std::move(actions));
  }
  infer_shape(schedule);
  return schedule;
}

Schedule load_schedule_csv(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  TORCH_CHECK(file.is_open() && !file.bad(), path, ": cannot be read: ", std::strerror(errno));
  try {
    Schedule schedule = read_schedule_csv(text);
    schedule.name = std::filesystem::path(path).filename().string();
    return schedule;
  } catch (const c10::Error& error) {
    C10_THROW_ERROR(Error, path + ": " + error.what_without_backtrace());
  }
}

std::string write_schedule_csv(const Schedule& schedule) {
  std::string text;
  for (const std::vector<Action>& actions : schedule.ranks) {
    bool is_second = false;  // of a pair
    for (size_t i = 0; i < actions.size(); ++i) {
      if (i > 0) text += is_second ? ";" : ",";
      if (actions[i].overlaps_next) text += kOverlapOpen;
      text += to_string(actions[i]);
      if (is_second) text += kOverlapClose;
      is_second = actions[i].overlaps_next;
    }
    text += '\n';
  }
  return text;
}

}  // namespace tessera::pipeline
