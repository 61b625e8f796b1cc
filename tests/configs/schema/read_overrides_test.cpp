#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using testing::load_flags;
using testing::load_text;

JobConfig config_of(const std::vector<std::string>& overrides) {
  return load_flags(overrides).config;
}

TEST(ReadOverrides, BothFormsOfAnAssignment) {
  EXPECT_EQ(config_of({"--training.steps", "50"}).training.steps, 50);
  EXPECT_EQ(config_of({"--training.steps=51"}).training.steps, 51);
  EXPECT_EQ(config_of({"--training.local-batch-size=3"}).training.local_batch_size, 3);
  EXPECT_EQ(
      config_of({"--quantize.linear.float8.filter_fqns", "a"}).quantize.linear.float8.filter_fqns,
      StringList{"a"});
  EXPECT_EQ(config_of({"--job.description=a=b"}).job.description, "a=b");
  EXPECT_EQ(config_of({"--job.description="}).job.description, "");
  EXPECT_EQ(config_of({"--job.description", ""}).job.description, "");
  EXPECT_EQ(config_of({"--job.description=--x"}).job.description, "--x");
}

TEST(ReadOverrides, Numbers) {
  EXPECT_EQ(config_of({"--optimizer.lr=1"}).optimizer.lr, 1.0);
  EXPECT_EQ(config_of({"--optimizer.lr", "3e-4"}).optimizer.lr, 3e-4);
  EXPECT_EQ(config_of({"--optimizer.lr", "+.5"}).optimizer.lr, 0.5);
  EXPECT_EQ(config_of({"--training.global_batch_size", "-1"}).training.global_batch_size, -1);
  EXPECT_EQ(config_of({"--training.steps", "+7"}).training.steps, 7);
  for (const char* text : {"ten", "10.0", "1_000", "5x", "", " 5", "+-5", "++5", "0x10"}) {
    EXPECT_CONFIG_ERROR(config_of({std::string("--training.steps=") + text}), "training.steps",
                        "expected an integer", std::string("got \"") + text + "\"",
                        "(command line)");
  }
  EXPECT_CONFIG_ERROR(config_of({"--training.steps=99999999999999999999"}), "training.steps",
                      "fits in 64 bits");
  EXPECT_CONFIG_ERROR(config_of({"--optimizer.lr=high"}), "optimizer.lr", "expected a number",
                      "got \"high\"", "(command line)");
  EXPECT_CONFIG_ERROR(config_of({"--optimizer.lr=1e999"}), "optimizer.lr", "fits in 64 bits");
}

TEST(ReadOverrides, Bools) {
  EXPECT_TRUE(config_of({"--checkpoint.enable"}).checkpoint.enable);
  EXPECT_TRUE(config_of({"--checkpoint.enable", "true"}).checkpoint.enable);
  EXPECT_TRUE(config_of({"--checkpoint.enable=true"}).checkpoint.enable);
  EXPECT_FALSE(config_of({"--checkpoint.enable=false"}).checkpoint.enable);
  EXPECT_FALSE(config_of({"--checkpoint.enable", "--checkpoint.no_enable"}).checkpoint.enable);
  EXPECT_FALSE(config_of({"--checkpoint.no_last_save_model_only"}).checkpoint.last_save_model_only);
  EXPECT_FALSE(config_of({"--checkpoint.no-last-save-model-only"}).checkpoint.last_save_model_only);
  EXPECT_FALSE(
      config_of({"--checkpoint.last_save_model_only", "false"}).checkpoint.last_save_model_only);
  const JobConfig config = config_of({"--checkpoint.enable", "--training.steps", "5"});
  EXPECT_TRUE(config.checkpoint.enable);
  EXPECT_EQ(config.training.steps, 5);

  EXPECT_CONFIG_ERROR(config_of({"--checkpoint.enable", "yes"}), "checkpoint.enable",
                      "expected true or false", "got \"yes\"");
  EXPECT_CONFIG_ERROR(config_of({"--checkpoint.no_enable=true"}), "--checkpoint.no_enable",
                      "takes no value");
  EXPECT_CONFIG_ERROR(config_of({"--checkpoint.no_enable", "true"}),
                      "unexpected argument \"true\"");
  EXPECT_CONFIG_ERROR(config_of({"--training.no_steps"}), "--training.no_steps: unknown option",
                      "did you mean --training.steps?");
}

TEST(ReadOverrides, ListsAreCommaStrings) {
  EXPECT_EQ(config_of({"--compile.components", "model,loss"}).compile.components,
            (StringList{"model", "loss"}));
  EXPECT_EQ(config_of({"--compile.components=loss"}).compile.components, StringList{"loss"});
  EXPECT_EQ(config_of({"--compile.components="}).compile.components, StringList{});
  EXPECT_EQ(config_of({"--training.dataset_path=a,b"}).training.dataset_path, "a,b");
  EXPECT_CONFIG_ERROR(config_of({"--parallelism.module_fqns_per_model_part=a"}),
                      "parallelism.module_fqns_per_model_part", "only the TOML file");
}

TEST(ReadOverrides, NoneUnsetsOptionalKeys) {
  const std::string toml =
      "[training]\ndataset_path = \"d\"\nseed = 4\n[lr_scheduler]\ndecay_ratio = 0.5\n";
  const JobConfig config =
      load_text(toml, {"--training.seed", "none", "--lr_scheduler.decay_ratio=none"}).config;
  EXPECT_FALSE(seed(config).has_value());
  EXPECT_FALSE(config.lr_scheduler.decay_ratio.has_value());
  EXPECT_CONFIG_ERROR(config_of({"--training.steps", "none"}), "training.steps",
                      "expected an integer", "got \"none\"");
}

TEST(ReadOverrides, TheLastOfSeveralWins) {
  EXPECT_EQ(config_of({"--training.steps=5", "--training.steps", "6"}).training.steps, 6);
  EXPECT_EQ(config_of({"--checkpoint.no_enable", "--checkpoint.enable"}).checkpoint.enable, true);
}

TEST(ReadOverrides, UnknownOptionsNameTheNearest) {
  EXPECT_CONFIG_ERROR(config_of({"--training.stps", "5"}), "--training.stps: unknown option",
                      "did you mean --training.steps?", "(command line)");
  EXPECT_CONFIG_ERROR(config_of({"--trainig.steps=5"}), "did you mean --training.steps?");
  EXPECT_CONFIG_ERROR(config_of({"--steps", "5"}),
                      "did you mean --training.steps, --validation.steps?");
  EXPECT_CONFIG_ERROR(config_of({"--seq_len=5"}), "did you mean --training.seq_len");
  EXPECT_CONFIG_ERROR(config_of({"--zzzzzzzz"}), "--zzzzzzzz: unknown option", "--schema");
  EXPECT_CONFIG_ERROR(config_of({"--=5"}), "unknown option");
  EXPECT_CONFIG_ERROR(config_of({"--training"}), "--training: unknown option");
}

TEST(ReadOverrides, MissingValues) {
  EXPECT_CONFIG_ERROR(config_of({"--training.steps"}), "training.steps: expected an integer",
                      "got no value", "(command line)");
  EXPECT_CONFIG_ERROR(config_of({"--job.description", "--training.steps", "5"}),
                      "job.description: expected a string", "got no value");
}

TEST(ReadOverrides, ArgumentsThatAreNoFlags) {
  for (const char* argument : {"50", "-training.steps", "", "--"}) {
    EXPECT_CONFIG_ERROR(config_of({argument}),
                        std::string("unexpected argument \"") + argument + "\"",
                        "--section.key value");
  }
}

TEST(ReadOverrides, TextMustBeUtf8) {
  EXPECT_EQ(
      config_of({"--job.description=na\xc3\xafve \xe6\x96\x87 \xf0\x9f\x98\x80"}).job.description,
      "na\xc3\xafve \xe6\x96\x87 \xf0\x9f\x98\x80");
  for (const char* text : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "\xf8\x88\x80\x80\x80"}) {
    EXPECT_CONFIG_ERROR(config_of({std::string("--job.description=a") + text}), "job.description",
                        "UTF-8");
  }
}

}  // namespace
}  // namespace tessera
