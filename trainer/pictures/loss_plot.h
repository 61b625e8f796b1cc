// The loss curve as one SVG file, drawn without any library so that every run can leave one.
//
// Raw losses are thin and pale, a centred mean of them is strong; steps without a finite loss are
// gaps, marked at the bottom. However long the run, the drawing stays small: beyond 2002
// records each of 1000 groups shows its least and its largest loss. Any number of records will do,
// also none.
//
//   const std::vector<StepRecord> records = read_metrics(dump_folder + "/metrics.jsonl");
//   write_loss_svg(dump_folder + "/loss.svg", records, {.title = "llama3 debugmodel"});
#pragma once

#include <string>
#include <vector>

#include "trainer/metrics/metrics.h"

namespace tessera {

struct PlotOptions {
  std::string title = "Training loss";  // any text: it is escaped
  int width = 900;                      // pixels; at least 300 x 200
  int height = 500;
};

// The text of the SVG file. Records may be in any order. Throws c10::Error for a size that leaves
// no room to draw.
std::string loss_svg(const std::vector<StepRecord>& records, const PlotOptions& options);

// Writes loss_svg into a file, atomically. Throws c10::Error naming job.dump_folder and the path
// when it cannot be written.
void write_loss_svg(const std::string& path, const std::vector<StepRecord>& records,
                    const PlotOptions& options);

}  // namespace tessera
