// A pipeline schedule, simulated, as text: what `tessera schedule` prints.
//
//   1F1B: 2 ranks, 2 stages, 3 microbatches
//   makespan 12, bubble 25.00%, at most 2 live microbatches
//   rank  idle  live
//      0   25%     2 │F0 F1 · · · B0--- F2 B1--- ·  B2---
//      1   25%     1 │·  F0 B0--- F1 B1--- F2 B2--- · · ·
//
// Time runs to the right. Where there is not room for names, letters stand alone ("B-F"); where
// there is not room for those either, a column shows the letter of what runs in its middle.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"
#include "parallel/pipeline/schedules/simulate_schedule.h"

namespace tessera {

struct ScheduleView {
  pipeline::Schedule schedule = {};
  pipeline::ActionCosts costs = {};
  pipeline::Simulation run = {};
  std::vector<int64_t> peak_live = {};  // of each rank
};

// Throws c10::Error when the schedule cannot run (validate_schedule.h) or a cost is no cost.
ScheduleView view_schedule(const pipeline::Schedule& schedule,
                           const pipeline::ActionCosts& costs = {});

// "33", "26.5", "1e-05": at most six digits, independent of the locale.
std::string time_text(double time);

// The first two lines.
std::string schedule_summary(const ScheduleView& view);

struct TimelineOptions {
  int64_t columns = 80;  // of the terminal
  bool color = false;
};

// The lines of the ranks and a legend.
std::string schedule_timeline(const ScheduleView& view, const TimelineOptions& options);

// One object: the shape, makespan, idle_share, costs, and of every rank idle_share, peak_live and
// actions as ["0F0", start, end].
std::string schedule_json(const ScheduleView& view);

}  // namespace tessera
