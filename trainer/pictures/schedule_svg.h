// A simulated pipeline schedule as one SVG figure: a row per rank, time to the right, a rectangle
// per action with its microbatch, lighter for the later stages of a rank; an overlapped pair is the
// forward above the backward. Idle share and live microbatches stand at the end of each row.
#pragma once

#include <string>

#include "trainer/pictures/draw_schedule.h"

namespace tessera {

std::string schedule_svg(const ScheduleView& view);

// The same into a file, atomically; throws c10::Error naming --svg and the path.
void write_schedule_svg(const std::string& path, const ScheduleView& view);

}  // namespace tessera
