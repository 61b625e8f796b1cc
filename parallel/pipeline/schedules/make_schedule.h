// The named schedules. A new one is a function of (shape, rank) in schedule_builders.h and a line
// in the table of make_schedule.cpp.
//
//   make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 4})
//     rank 0: 0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3
//     rank 1: 1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3
//
//   name                   stages a rank  placement  microbatches
//   GPipe                  1              loop       any        all forwards, then all backwards
//   1F1B                   1              loop       >= stages  backwards as early as they can
//   Interleaved1F1B        any; 2         loop       % rounds   1F1B, depth first
//   LoopedBFS              any; 2         loop       any        GPipe, breadth first
//   InterleavedZeroBubble  any; 2         loop       % rounds   split backward; W fills the gaps
//   ZBVZeroBubble          2              V          any        split backward in a V
//   DualPipeV              2              V          >= stages  in a V, F and B overlapped
//
// "any; 2" stages a rank: any number, 2 by default. "% rounds" microbatches: a multiple of
// rounds = max(1, microbatches / ranks rounded down). With 4 ranks, 10 microbatches make 2 rounds
// of 5, and 9 are refused. Orders are those of PyTorch's torch/distributed/pipelining/schedules.py,
// which names the papers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

struct ScheduleShape {
  int64_t num_ranks = 1;
  int64_t num_microbatches = 1;
  std::optional<int64_t> stages_per_rank = {};  // without one, the schedule's own: 1 or 2
};

// The properties of a named schedule that hold for every shape.
struct ScheduleTraits {
  const char* name;
  std::optional<int64_t> fixed_stages_per_rank;  // none: any number
  int64_t default_stages_per_rank;
  bool is_v;             // placement: V or loop
  bool splits_backward;  // has I and W
};

// The traits of the schedule with this name, whatever its case. Throws c10::Error that lists the
// names when there is no such schedule.
const ScheduleTraits& schedule_traits(std::string_view name);

std::vector<ScheduleTraits> all_schedule_traits();

// The named schedule for a shape. Throws c10::Error as schedule_traits does, and naming the
// schedule, the number and what was expected when the schedule does not exist for this shape.
Schedule make_schedule(std::string_view name, const ScheduleShape& shape);

}  // namespace tessera::pipeline
