// The loss curve as one SVG file, drawn without any library so that every run can leave one.
//
// Raw losses thin and pale, a centred mean of them strong; steps without a finite loss are gaps,
// marked at the bottom. However long the run, the drawing stays small: beyond about 1000 records
// each of 1000 groups shows its least and its largest loss. Any number of records will do, also
// none.
//
//   write_loss_svg(dump_folder + "/loss.svg", read_metrics(metrics_file), {.title = "llama3
//   debugmodel"});
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

// Records may be in any order. Throws c10::Error for a size that leaves no room to draw.
std::string loss_svg(const std::vector<StepRecord>& records, const PlotOptions& options);

// The same into a file, atomically; throws c10::Error naming job.dump_folder and the path.
void write_loss_svg(const std::string& path, const std::vector<StepRecord>& records,
                    const PlotOptions& options);

}  // namespace tessera
