#include "configs/job_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "configs/schema/config_fields.h"
#include "tests/support/golden.h"

namespace tessera {
namespace {

using configs::ConfigSection;
using configs::Field;

// The values in TOML's notation, by "section.key".
std::map<std::string, std::string> reference_defaults() {
  std::map<std::string, std::string> defaults;
  std::ifstream file(testing::golden("configs/torchtitan_defaults.txt"));
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t equals = line.find(" = ");
    defaults[line.substr(0, equals)] = line.substr(equals + 3);
  }
  // Tessera's own keys.
  defaults["comm.grace_seconds"] = "3";
  defaults["model.attention"] = R"("auto")";
  defaults["model.attn_mask_type"] = R"("block_causal")";
  defaults["model.mask"] = R"("")";
  defaults["model.tokenizer"] = R"("auto")";
  defaults["parallelism.enable_sequence_parallel"] = "true";
  defaults["training.dataset_shuffle"] = "false";
  defaults["training.invalid_utf8"] = R"("replace")";
  return defaults;
}

TEST(JobConfig, DefaultsAreTorchTitans) {
  const std::map<std::string, std::string> expected = reference_defaults();
  ASSERT_EQ(expected.size(), 161u);
  std::map<std::string, std::string> actual;
  const JobConfig config;
  for (const ConfigSection& section : configs::config_sections()) {
    for (const Field& field : section.fields) {
      actual[field.name()] = configs::to_toml_text(field.get(config));
    }
  }
  EXPECT_EQ(actual, expected);
}

TEST(JobConfig, SpotChecksOfDefaults) {
  const JobConfig config;
  EXPECT_EQ(config.optimizer.lr, 8e-4);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.lr_scheduler.warmup_steps, 200);
  EXPECT_FALSE(config.lr_scheduler.decay_ratio.has_value());
  EXPECT_EQ(config.training.seq_len, 2048);
  EXPECT_EQ(config.parallelism.data_parallel_shard_degree, -1);
  EXPECT_EQ(config.checkpoint.keep_latest_k, 10);
  EXPECT_EQ(config.activation_checkpoint.selective_ac_option, "2");
}

// A member that the field table forgets could never be set: every data member of job_config.h has
// as many lines in the table as there are structs that declare it ([training.dataloader] and
// [validation.dataloader] share one).
TEST(JobConfig, EveryMemberIsInTheFieldTable) {
  std::ifstream file(std::string(TESSERA_SOURCE_DIR) + "/configs/job_config.h");
  const std::regex data_member(
      R"(^  (?:bool|int64_t|double|std::string|StringList|std::optional<.*>) (\w+)( = .*)?;.*$)");
  std::multiset<std::string> members;
  bool shared = false;
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (line.rfind("struct ", 0) == 0) shared = line.rfind("struct DataLoaderSection", 0) == 0;
    if (!std::regex_match(line, match, data_member)) continue;
    members.insert(match[1]);
    if (shared) members.insert(match[1]);
  }
  std::multiset<std::string> keys;
  for (const ConfigSection& section : configs::config_sections()) {
    for (const Field& field : section.fields) keys.insert(field.key);
  }
  EXPECT_EQ(keys, members);
}

TEST(JobConfig, SeedComesFromEitherSection) {
  JobConfig config;
  EXPECT_FALSE(seed(config).has_value());
  config.training.seed = 7;
  EXPECT_EQ(seed(config), 7);
  config.debug.seed = 8;
  EXPECT_EQ(seed(config), 8);
}

TEST(JobConfig, DatasetFormat) {
  Training training;
  for (const char* name : {"jsonl", "c4", "c4_test"}) {
    training.dataset = name;
    EXPECT_EQ(dataset_format(training), "jsonl") << name;
  }
  training.dataset = "text_files";
  EXPECT_EQ(dataset_format(training), "text_files");
}

TEST(JobConfig, BatchArithmetic) {
  Training training;
  training.local_batch_size = 4;
  EXPECT_EQ(global_batch_size(training), 4);
  EXPECT_EQ(global_batch_size(training, 3), 12);
  EXPECT_EQ(gradient_accumulation_steps(training, 3), 1);
  training.global_batch_size = 24;
  EXPECT_EQ(global_batch_size(training, 3), 24);
  EXPECT_EQ(gradient_accumulation_steps(training), 6);
  EXPECT_EQ(gradient_accumulation_steps(training, 3), 2);
}

}  // namespace
}  // namespace tessera
