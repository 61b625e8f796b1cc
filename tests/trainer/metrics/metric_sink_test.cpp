#include "trainer/metrics/metric_sink.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"
#include "trainer/metrics/metrics.h"

namespace tessera {
namespace {

JobConfig config_of(const testing::TempDir& folder) {
  JobConfig config;
  config.job.dump_folder = folder.path().string();
  return config;
}

TEST(MetricFields, KeysAreDifferentAndInTheOrderOfTheFile) {
  std::set<std::string> keys;
  std::string line = to_json_line({});
  size_t place = 0;
  for (const MetricField& field : kMetricFields) {
    EXPECT_TRUE(keys.insert(field.key).second) << field.key;
    const size_t found = line.find("\"" + std::string(field.key) + "\":");
    ASSERT_NE(found, std::string::npos) << field.key;
    EXPECT_GE(found, place) << field.key;
    place = found;
  }
}

TEST(MetricSinks, TheMetricsFileIsAlwaysOne) {
  const testing::TempDir folder;
  const MetricSinks sinks = open_metric_sinks(config_of(folder), 0, Logger());
  ASSERT_EQ(sinks.size(), 1u);
  sinks.front()->write({.step = 1, .loss = 2.5});
  const std::vector<StepRecord> records = read_metrics(metrics_path(folder.path().string()));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records.front(), (StepRecord{.step = 1, .loss = 2.5}));
}

TEST(MetricSinks, ARunThatContinuesDropsLaterRecords) {
  const testing::TempDir folder;
  const JobConfig config = config_of(folder);
  for (const auto& sink : open_metric_sinks(config, 0, Logger())) {
    for (int64_t step = 1; step <= 3; ++step) sink->write({.step = step});
  }
  open_metric_sinks(config, 2, Logger());
  EXPECT_EQ(read_metrics(metrics_path(config.job.dump_folder)).size(), 2u);
}

TEST(MetricSinks, AFileThatCannotBeOpenedIsNamed) {
  JobConfig config;
  config.job.dump_folder = "/no/such/folder";
  EXPECT_ERROR(open_metric_sinks(config, 0, Logger()), "/no/such/folder/metrics.jsonl");
}

}  // namespace
}  // namespace tessera
