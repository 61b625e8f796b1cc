// A pipeline schedule, simulated, as text: what `tessera schedule` prints.
//
//   1F1B: 2 ranks, 2 stages, 3 microbatches
//   makespan 12, bubble 25.00%, at most 2 live microbatches
//   rank  idle  live
//      0   25%     2 │F0 F1 · · · B0--- F2 B1--- ·  B2---
//      1   25%     1 │·  F0 B0--- F1 B1--- F2 B2--- · · ·
//   F forward  B backward  · idle
//
// Time runs to the right. Where there is not room for names, letters stand alone ("B-F"); where
// there is not room for those either, a column shows the letter of what runs in its middle.
//
//   const ScheduleView view = view_schedule(pipeline::make_schedule("1F1B", {2, 3}));
//   std::cout << schedule_summary(view) << schedule_timeline(view, {.columns = 80});
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"
#include "parallel/pipeline/schedules/simulate_schedule.h"

namespace tessera {

// A schedule with all that is told of it. Times are in the unit of the costs.
struct ScheduleView {
  pipeline::Schedule schedule = {};
  pipeline::ActionCosts costs = {};
  pipeline::Simulation run = {};
  std::vector<int64_t> peak_live = {};  // microbatches that each rank holds at once, at most
};

// Simulates the schedule. Throws c10::Error when it cannot run (validate_schedule.h) or a cost is
// no cost (simulate_schedule.h).
ScheduleView view_schedule(const pipeline::Schedule& schedule,
                           const pipeline::ActionCosts& costs = {});

// A time for people, in at most six digits and independent of the locale: "33", "26.5", "1e-05".
std::string time_text(double time);

// The first two lines of the example: the schedule, and its makespan, idle time and memory.
std::string schedule_summary(const ScheduleView& view);

struct TimelineOptions {
  int64_t columns = 80;  // of the terminal; below 37 as 37
  bool color = false;
};

// The rest of the example: a title, the lines of the ranks and a legend.
std::string schedule_timeline(const ScheduleView& view, const TimelineOptions& options);

// One object on one line: schedule, ranks, stages, microbatches (numbers of them), makespan,
// idle_share (0 to 1), costs, and per_rank, which lists for every rank its stages, idle_share,
// peak_live and actions as ["0F0", start, end].
std::string schedule_json(const ScheduleView& view);

}  // namespace tessera
