// A simulated pipeline schedule as one SVG figure: a row per rank, time to the right, a rectangle
// per action with its microbatch, lighter for the later stages of a rank. An overlapped pair shows
// the forward above the backward. Idle share and live microbatches stand at the end of each row.
//
//   write_schedule_svg("schedule.svg", view_schedule(schedule));
#pragma once

#include <string>

#include "trainer/pictures/draw_schedule.h"

namespace tessera {

// The text of the SVG file.
std::string schedule_svg(const ScheduleView& view);

// Writes schedule_svg into a file, atomically. Throws c10::Error naming --svg and the path when it
// cannot be written.
void write_schedule_svg(const std::string& path, const ScheduleView& view);

}  // namespace tessera
