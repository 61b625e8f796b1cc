// Where the records of a run's steps go: a sink is a file, or whatever else takes records.
//
//   MetricSinks sinks = open_metric_sinks(config, resumed_step, log);   // 0: a new run
//   for (const auto& sink : sinks) sink->write(record);
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "configs/job_config.h"
#include "trainer/metrics/step_record.h"
#include "trainer/support/logging.h"

namespace tessera {

class MetricSink {
 public:
  virtual ~MetricSink() = default;

  // Called once for each step, in their order, on rank 0. What it has taken survives a crash of
  // this process. Throws c10::Error naming the file, e.g. on a full disk, which ends the run.
  virtual void write(const StepRecord& record) = 0;
};

using MetricSinks = std::vector<std::unique_ptr<MetricSink>>;

// The sinks that the configuration asks for, for a run that continues after `last_step`: records
// of later steps are dropped from them, which `log` tells. metrics.jsonl (metrics.h) is always one.
// Throws c10::Error naming the file that cannot be opened or continued.
MetricSinks open_metric_sinks(const JobConfig& config, int64_t last_step, const Logger& log);

}  // namespace tessera
