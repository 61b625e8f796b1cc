// Schedules as CSV, in the form of PyTorch's "compute only" schedules:
//
//   0F0,0F1,,2F0,2B0,...    one line per rank, one cell per action: stage, F, B, I or W, microbatch
//   1F0,,1F1,3F0,3B0,...    an empty cell is an idle slot and says nothing: the order is all
//   (0F4;7B0)OVERLAP_F_B    a forward and a backward that may run interleaved
//
// Communication is not written down; it is derived (communication.h).
#pragma once

#include <string>
#include <string_view>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

// The schedule of a CSV text. Ranks are the lines; a stage belongs to the rank where it is first
// met; stages and microbatches count up to the largest that is named. Whether it can run is for
// validate_schedule. Throws c10::Error naming line and cell, from 1, what was found and what was
// expected.
Schedule read_schedule_csv(std::string_view text);

// The schedule of a CSV file; the file's name without folder is the schedule's. Throws c10::Error
// that starts with the path, also when the file cannot be read.
Schedule load_schedule_csv(const std::string& path);

// The CSV text of a schedule, without idle cells; read_schedule_csv gives back equal ranks.
std::string write_schedule_csv(const Schedule& schedule);

}  // namespace tessera::pipeline
