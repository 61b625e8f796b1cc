// Tells whether a schedule can run. The named schedules can; a schedule from a file or of one's own
// has to show it.
//
//   validate_schedule(load_schedule_csv("schedule.csv"), {.max_live_microbatches = 4});
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

struct ScheduleLimits {
  std::optional<int64_t> max_live_microbatches = {};  // on any rank, as counted below
};

// Throws c10::Error with the first reason, as rank, position in its list (from 0) and action,
// unless the schedule has at least one rank, stage per rank and microbatch and
//  - every stage has one forward and one backward of every microbatch, B or I with W, on the rank
//    that the placement gives it;
//  - in a rank's list forwards come before their backwards and I before its W; an overlapped pair
//    is a forward, then a backward that did not need it;
//  - the ranks, each running its list in order, reach the end: a stage waits for its input and for
//    the gradient of its output (blocking receives), a send waits for nobody (buffered sends). The
//    orders that communication.h derives also run where sends wait for their receivers;
//  - no rank holds more than max_live_microbatches.
void validate_schedule(const Schedule& schedule, const ScheduleLimits& limits = {});

// The most forwards that each rank holds activations of at once, counted over its stages: from the
// forward to B, or to the W of a split backward.
std::vector<int64_t> peak_live_microbatches(const Schedule& schedule);

}  // namespace tessera::pipeline
