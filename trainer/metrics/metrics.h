// What a training step leaves behind: a record in <dump_folder>/metrics.jsonl and, at times, a line
// on the console.
//
// The file has one JSON object per line with the keys of StepRecord in their order. Numbers are the
// shortest text that reads back as the same double, so equal runs give equal files. JSON has no NaN
// or infinity: a number that is not finite is written as null, like one that is unknown.
//
//   MetricsFile metrics(dump_folder + "/metrics.jsonl", resumed_step);   // 0: a new run
//   metrics.append(record);
//   log.info(console_line(record, {.color = true}));
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/support/output_dir.h"

namespace tessera {

struct StepRecord {
  int64_t step = 0;      // counted from 1
  double loss = 0;       // sum over the step's valid labels / their number, all ranks
  double max_loss = 0;   // the largest mean loss of any rank
  double grad_norm = 0;  // before clipping
  double lr = 0;         // used in this step
  int64_t num_tokens =
      0;  // of this step, all ranks and microbatches, padding and ignored targets included
  double step_s = 0;                  // wall time of the step, data included
  double data_s = 0;                  // of it, waiting for data
  double tps = 0;                     // tokens per second and device
  std::optional<double> tflops = {};  // model FLOPs per second and device, in 1e12
  std::optional<double> mfu = {};     // percent of the device's peak; nothing where that is unknown
  std::optional<double> memory_gib = {};  // peak so far

  bool operator==(const StepRecord&) const = default;
};

// One line of the file, without the newline.
std::string to_json_line(const StepRecord& record);

// Reads one such line. Unknown keys are passed over, missing ones are errors except the three
// optional ones. Throws c10::Error; `where` ("metrics.jsonl:17") stands in the message. A null
// loss, max_loss, grad_norm or lr reads as NaN.
StepRecord from_json_line(std::string_view line, const std::string& where);

// All records of the file. A last line that is no JSON (a run that was killed while writing) is
// passed over; such a line elsewhere, or a missing file, throws c10::Error naming path and line.
std::vector<StepRecord> read_metrics(const std::string& path);

class MetricsFile {
 public:
  // Opens the file for a run that continues after `last_step`: records of later steps and a torn
  // last line are dropped (the rest is copied unchanged and renamed into place, so a crash here
  // loses nothing). last_step = 0 starts anew. Throws c10::Error naming path and line where an
  // earlier line is no record.
  MetricsFile(const std::string& path, int64_t last_step);

  // Written through to the system before it returns. Throws c10::Error naming the file, e.g. on a
  // full disk.
  void append(const StepRecord& record);

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

// TorchTitan's line, "step: 10  loss:  3.65334  grad_norm:  0.9321  memory:  1.25GiB(7.91%)  tps:
// 4,389  tflops: 0.12 mfu: 31.20%", with N/A for what is unknown.
std::string console_line(const StepRecord& record, const ConsoleLineOptions& options);

}  // namespace tessera
