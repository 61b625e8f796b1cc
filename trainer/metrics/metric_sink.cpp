#include "trainer/metrics/metric_sink.h"

#include <string>
#include <utility>

#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

std::unique_ptr<MetricSink> open_metrics_file(const JobConfig& config, int64_t last_step,
                                              const Logger& log) {
  auto file = std::make_unique<MetricsFile>(metrics_path(config.job.dump_folder), last_step);
  if (file->num_dropped() > 0) {
    log.info("metrics.jsonl: dropped " + std::to_string(file->num_dropped()) +
             " records of an earlier run after step " + std::to_string(last_step));
  }
  return file;
}

}  // namespace

MetricSinks open_metric_sinks(const JobConfig& config, int64_t last_step, const Logger& log) {
  MetricSinks sinks;
  sinks.push_back(open_metrics_file(config, last_step, log));
  return sinks;
}

}  // namespace tessera
