// The named schedules. To add one: a function of (shape, rank) and a line in the table of
// make_schedule.cpp.
//
//   make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 4})
//     rank 0: 0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3
//     rank 1: 1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3
//
//   name                   stages a rank  placement  microbatches
//   GPipe                  1              loop       any        all forwards, then all backwards
//   1F1B                   1              loop       >= ranks   backwards as early as they can
//   Interleaved1F1B        any; 2         loop       % rounds   1F1B, depth first
//   LoopedBFS              any; 2         loop       any        GPipe, breadth first
//   InterleavedZeroBubble  any; 2         loop       % rounds   split backward; W fills the gaps
//   ZBVZeroBubble          2              V          any        the same in a V
//   DualPipeV              2              V          >= stages  in a V, F and B overlapped
//
// rounds = max(1, microbatches / ranks): (ranks, microbatches) = (4, 10) has rounds of 5, (4, 9) is
// refused. Orders are those of PyTorch's torch/distributed/pipelining/schedules.py, which names the
// papers.
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

struct ScheduleTraits {
  const char* name;
  std::optional<int64_t> fixed_stages_per_rank;  // none: any number
  int64_t default_stages_per_rank;
  bool is_v;             // placement: V or loop
  bool splits_backward;  // has I and W
};

// Names are case-insensitive. Throws c10::Error that lists the names when there is no such.
const ScheduleTraits& schedule_traits(std::string_view name);

std::vector<ScheduleTraits> all_schedule_traits();

// Throws c10::Error naming the schedule, the number and what was expected when the schedule does
// not exist for this shape.
Schedule make_schedule(std::string_view name, const ScheduleShape& shape);

}  // namespace tessera::pipeline
