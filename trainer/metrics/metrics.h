// What a training step leaves behind: a record in <dump_folder>/metrics.jsonl and, at times, a line
// on the console.
//
// The file has one JSON object per line with the keys of kMetricFields in their order. Numbers are
// the shortest text that reads back as the same double, so equal runs give equal files. JSON has no
// NaN or infinity: a number that is not finite is written as null, like one that is unknown.
//
//   MetricsFile metrics(metrics_path(dump_folder), resumed_step);   // 0: a new run
//   metrics.write(record);
//   log.info(console_line(record, {.color = true}));
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/metrics/metric_sink.h"
#include "trainer/metrics/step_record.h"
#include "trainer/support/output_dir.h"

namespace tessera {

// The file's path.
std::string metrics_path(const std::string& dump_folder);

// The line of the file for `record`, without the newline.
std::string to_json_line(const StepRecord& record);

// Reads a line that to_json_line wrote. Unknown keys are passed over; missing ones are errors
// except for optional fields. A null reads as NaN, or as nothing where the number is optional.
// Throws c10::Error, also for a step or num_tokens that is no integer; `where` (e.g.
// "metrics.jsonl:17") stands for the place in the message.
StepRecord from_json_line(std::string_view line, const std::string& where);

// All records of the file. A last line that is no JSON (a run that was killed while writing) is
// passed over. Such a line elsewhere, a line that is no record, and a missing file throw c10::Error
// naming path and line.
std::vector<StepRecord> read_metrics(const std::string& path);

// The file metrics.jsonl, for writing.
class MetricsFile final : public MetricSink {
 public:
  // Opens the file for a run that continues after `last_step`: records of later steps and a torn
  // last line are dropped (the rest is copied unchanged and renamed into place, so a crash here
  // loses nothing). last_step = 0 starts anew. Throws c10::Error naming path and line where an
  // earlier line is no record.
  MetricsFile(const std::string& path, int64_t last_step);

  // Hands the line to the system before it returns. Throws c10::Error naming the file, e.g. on a
  // full disk.
  void write(const StepRecord& record) override;

  int64_t num_dropped() const { return num_dropped_; }  // lines that the constructor dropped
  const std::string& path() const { return file_.path(); }

 private:
  int64_t num_dropped_;
  AppendFile file_;
};

struct ConsoleLineOptions {
  bool color = false;  // TorchTitan's colours; Logger removes them where they do not belong
  std::optional<double> memory_total_gib = {};  // for the percentage
};

// TorchTitan's line, with N/A for figures that are unknown (one line; broken here for its length):
//
//   step: 10  loss:  3.65334  grad_norm:  0.9321  memory:  1.25GiB(7.91%)
//     tps: 4,389  tflops: 0.12  mfu: 31.20%
std::string console_line(const StepRecord& record, const ConsoleLineOptions& options);

}  // namespace tessera
