// to_toml writes what load_config reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "configs/schema/setting.h"
#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using configs::ConfigSection;
using configs::ConfigValue;
using configs::Field;
using configs::Setting;
using configs::ValueType;
using ::testing::HasSubstr;
using testing::load_flags;
using testing::load_text;

const std::vector<std::string> kTexts = {
    "",
    "plain",
    "with \"quotes\" and \\ back",
    "line\nbreak\ttab\rreturn",
    "\x01\x1f\x7f",
    "caf\xc3\xa9 \xf0\x9f\x98\x80",
    "# no comment",
    "[x]",
    "'''",
    "a = 1",
    "\\u0041",
    " spaces ",
};

std::string random_text(std::mt19937& random) { return kTexts[random() % kTexts.size()]; }

StringList random_list(std::mt19937& random) {
  StringList list(random() % 4);
  for (std::string& item : list) item = random_text(random);
  return list;
}

double random_number(std::mt19937& random) {
  const std::vector<double> numbers = {
      0.0,       1.0,   -1.0,   1e-8, 8e-4,        0.1,
      1.0 / 3.0, 1e300, 5e-324, 1e15, 123456789.0, std::numeric_limits<double>::max()};
  return numbers[random() % numbers.size()] * (random() % 2 == 0 ? 1.0 : 1.0 + 1e-15);
}

int64_t random_integer(std::mt19937& random) {
  const std::vector<int64_t> numbers = {
      0, 1, -1, 42, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  return numbers[random() % numbers.size()];
}

ConfigValue random_value(const Field& field, std::mt19937& random) {
  if (field.optional && random() % 4 == 0) return std::monostate{};
  switch (field.type) {
    case ValueType::kBool:
      return random() % 2 == 0;
    case ValueType::kInt:
      return random_integer(random);
    case ValueType::kFloat:
      return random_number(random);
    case ValueType::kString:
      return random_text(random);
    case ValueType::kStringList:
      return random_list(random);
    case ValueType::kStringLists:
      return std::vector<StringList>{random_list(random), {}};
    case ValueType::kUnset:
      break;
  }
  return {};
}

// Sets every key to a random value of its type, whether it is allowed or not: the test is of the
// reader alone, without the checks.
TEST(ToToml, ReadsBackForRandomValuesOfEveryKey) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    JobConfig config;
    for (const ConfigSection& section : configs::config_sections()) {
      for (const Field& field : section.fields) field.set(config, random_value(field, random));
    }
    JobConfig read;
    for (const Setting& setting : configs::read_toml(to_toml(config), "printed")) {
      setting.field->set(read, setting.value);
    }
    ASSERT_EQ(read, config) << "seed " << seed << "\n" << to_toml(config);
  }
}

TEST(ToToml, LoadsBackToAnEqualConfiguration) {
  JobConfig config =
      load_flags({"--training.steps=50", "--training.seed=3", "--checkpoint.enable",
                  "--lr_scheduler.min_lr_factor=0.25", "--job.description=a \"b\" \\ c",
                  "--parallelism.context_parallel_load_balancer=none", "--training.deterministic",
                  "--optimizer.lr=0.1", "--training.dataset_path=a,b/*.txt"})
          .config;
  config.job.config_file = "where/it/came/from.toml";
  const LoadedConfig again = load_text(to_toml(config));
  EXPECT_EQ(again.config, config);
  EXPECT_TRUE(again.warnings.empty());  // the warm-up has been shortened already
}

TEST(ToToml, RecipesLoadBackEqualIncludingTheirOrigin) {
  const std::filesystem::path folder = std::filesystem::path(TESSERA_SOURCE_DIR) / "configs";
  for (const char* name :
       {"llama3_debug.toml", "llama3_8b.toml", "llama3_70b.toml", "llama3_405b.toml"}) {
    const JobConfig config = load_config((folder / name).string(), {}).config;
    EXPECT_EQ(config.job.config_file, (folder / name).string());
    EXPECT_EQ(load_text(to_toml(config)).config, config) << name;
  }
}

TEST(ToToml, LooksLikeWhatOneWouldWrite) {
  const std::string toml = to_toml(JobConfig{});
  EXPECT_EQ(toml.rfind("[job]\n# config_file = none\ndump_folder = \"./outputs\"\n", 0), 0u)
      << toml;
  EXPECT_THAT(toml, HasSubstr("\n\n[optimizer]\nname = \"AdamW\"\nlr = 8e-4\nbeta1 = 0.9\n"));
  EXPECT_THAT(toml, HasSubstr("\neps = 1e-8\n"));
  EXPECT_THAT(toml, HasSubstr("\nmax_norm = 1.0\n"));
  EXPECT_THAT(toml, HasSubstr("\n# decay_ratio = none\n"));
  EXPECT_THAT(toml, HasSubstr("\ncomponents = [\"model\", \"loss\"]\n"));
  EXPECT_THAT(toml, HasSubstr("\n[quantize.linear.float8]\n"));
}

}  // namespace
}  // namespace tessera
