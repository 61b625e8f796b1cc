// The reader's errors for wrong syntax, names and types. Every message names key, got, expected and
// place.
#include <gtest/gtest.h>

#include <string>

#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using testing::load_text;

std::string with_data(const std::string& toml) {
  return "[training]\ndataset_path = \"data\"\n" + toml;
}

TEST(ReadToml, ReadsEveryType) {
  const JobConfig config = load_text(R"(
[job]
description = "caf\u00e9"
[metrics]
disable_color_printing = true
[optimizer]
lr = 3e-4
eps = 1
[lr_scheduler]
decay_ratio = 0.8
[training]
dataset_path = "data"
steps = 1_000
seed = 42
[compile]
components = ["loss"]
[parallelism]
module_fqns_per_model_part = [["tok_embeddings", "layers.0"], ["norm"]]
[quantize.linear.float8]
filter_fqns = ["output"]
)")
                               .config;
  EXPECT_EQ(config.job.description, "caf\xc3\xa9");
  EXPECT_TRUE(config.metrics.disable_color_printing);
  EXPECT_EQ(config.optimizer.lr, 3e-4);
  EXPECT_EQ(config.optimizer.eps, 1.0);  // an integer where a number is wanted
  EXPECT_EQ(config.lr_scheduler.decay_ratio, 0.8);
  EXPECT_EQ(config.training.steps, 1000);
  EXPECT_EQ(config.training.seed, 42);
  EXPECT_EQ(config.compile.components, StringList{"loss"});
  ASSERT_TRUE(config.parallelism.module_fqns_per_model_part.has_value());
  EXPECT_EQ(*config.parallelism.module_fqns_per_model_part,
            (std::vector<StringList>{{"tok_embeddings", "layers.0"}, {"norm"}}));
  EXPECT_EQ(config.quantize.linear.float8.filter_fqns, StringList{"output"});
}

TEST(ReadToml, DottedKeysAndInlineTablesAreSectionsToo) {
  EXPECT_EQ(load_text("training.dataset_path = \"d\"\ntraining.steps = 7\n").config.training.steps,
            7);
  EXPECT_EQ(load_text("training = {dataset_path = \"d\", steps = 7}\n").config.training.steps, 7);
}

TEST(ReadToml, NoneUnsetsOptionalKeysOnly) {
  const JobConfig config = load_text(with_data(R"(
[job]
description = "none"
[parallelism]
context_parallel_load_balancer = "none"
)"))
                               .config;
  EXPECT_EQ(config.job.description, "none");
  EXPECT_FALSE(config.parallelism.context_parallel_load_balancer.has_value());
}

TEST(ReadToml, DatasetPathTakesAList) {
  EXPECT_EQ(
      load_text("[training]\ndataset_path = [\"a\", \"b/*.txt\"]\n").config.training.dataset_path,
      "a,b/*.txt");
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset_path = [\"a,b\"]\n"), "training.dataset_path",
                      "no comma", "\"a,b\"", "line 2");
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset_path = [\"a\", \"\"]\n"),
                      "training.dataset_path", "not empty", "line 2");
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset_path = [\"a\", 1]\n"), "training.dataset_path",
                      "a string or a list of strings", "integer 1", "line 2, column 22");
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset_path = []\n"), "training.dataset_path",
                      "not empty");
}

TEST(ReadToml, WrongTypesNameExpectedAndGot) {
  EXPECT_CONFIG_ERROR(
      load_text("[training]\n\nsteps = \"ten\"\n"),
      "training.steps: expected an integer, got string \"ten\" (line 3, column 9 of", "run.toml)");
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = 10.0\n"), "training.steps",
                      "expected an integer", "got number 10.0", "line 2");
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = [1]\n"), "training.steps", "got a list");
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = 2026-11-21\n"), "training.steps",
                      "got a date or time");
  EXPECT_CONFIG_ERROR(load_text("[training.steps]\nx = 1\n"), "training.steps", "got a section");
  EXPECT_CONFIG_ERROR(load_text("[optimizer]\nlr = \"high\"\n"), "optimizer.lr",
                      "expected a number", "got string \"high\"", "line 2");
  EXPECT_CONFIG_ERROR(load_text("[optimizer]\nlr = true\n"), "optimizer.lr", "got true");
  EXPECT_CONFIG_ERROR(load_text("[checkpoint]\nenable = 1\n"), "checkpoint.enable",
                      "expected true or false", "got integer 1");
  EXPECT_CONFIG_ERROR(load_text("[model]\nname = 3\n"), "model.name", "expected a string",
                      "got integer 3");
  EXPECT_CONFIG_ERROR(load_text("[model]\nconverters = \"float8\"\n"), "model.converters",
                      "expected a list of strings", "got string \"float8\"");
  EXPECT_CONFIG_ERROR(load_text("[model]\nconverters = [\"a\", 2]\n"), "model.converters",
                      "expected a list of strings", "got integer 2");
  EXPECT_CONFIG_ERROR(load_text("[parallelism]\nmodule_fqns_per_model_part = [\"a\"]\n"),
                      "parallelism.module_fqns_per_model_part",
                      "expected a list of lists of strings", "got string \"a\"");
}

TEST(ReadToml, LongValuesAreCutInMessages) {
  const std::string message = testing::config_error_of(
      [] { load_text("[training]\nsteps = \"" + std::string(5000, 'x') + "\"\n"); });
  EXPECT_NE(message.find("xxx\"..."), std::string::npos) << message;
  EXPECT_LT(message.size(), 250u);
}

TEST(ReadToml, UnknownKeysNameTheNearest) {
  EXPECT_CONFIG_ERROR(load_text("[training]\nstesp = 5\n"),
                      "training.stesp: unknown key; did you mean training.steps?",
                      "line 2, column 1");
  EXPECT_CONFIG_ERROR(load_text("[training]\nbatch_size = 5\n"), "training.batch_size",
                      "did you mean training.local_batch_size?");
  EXPECT_CONFIG_ERROR(load_text("[training]\nlr = 5\n"), "training.lr: unknown key",
                      "did you mean optimizer.lr?");
  EXPECT_CONFIG_ERROR(load_text("[checkpoint]\nenable_checkpoint = true\n"),
                      "did you mean checkpoint.enable?");
  EXPECT_CONFIG_ERROR(load_text("[quantize.linear.float8]\nemulat = true\n"),
                      "quantize.linear.float8.emulat",
                      "did you mean quantize.linear.float8.emulate?");
  EXPECT_CONFIG_ERROR(load_text("[debug]\nqqqqqqqq = 1\n"), "debug.qqqqqqqq: unknown key",
                      "keys of [debug]: seed, deterministic");
}

TEST(ReadToml, UnknownSectionsNameTheNearest) {
  EXPECT_CONFIG_ERROR(load_text("\n[trainning]\nsteps = 5\n"), "trainning: unknown section",
                      "did you mean [training]?", "line 2");
  EXPECT_CONFIG_ERROR(load_text("[quantize.linear.float9]\n"), "quantize.linear.float9",
                      "did you mean [quantize.linear.float8]?", "line 1");
  EXPECT_CONFIG_ERROR(load_text("[zzzzzz]\n"), "zzzzzz: unknown section",
                      "sections: job, profiling");
}

TEST(ReadToml, KeysOutsideOfSectionsAndSectionsThatAreNone) {
  EXPECT_CONFIG_ERROR(load_text("steps = 5\n"), "steps: stands outside of any section",
                      "did you mean training.steps, validation.steps?", "line 1");
  EXPECT_CONFIG_ERROR(load_text("qqqqqqqqqqqqq = 5\n"), "tessera config --schema");
  EXPECT_CONFIG_ERROR(load_text("training = 5\n"), "training: expected a section, got integer 5",
                      "line 1");
  EXPECT_CONFIG_ERROR(load_text("[[training]]\nsteps = 5\n"), "training: expected a section",
                      "got a list");
  EXPECT_CONFIG_ERROR(load_text("[quantize]\nlinear = 1\n"),
                      "quantize.linear: expected a section, got integer 1", "line 2");
}

TEST(ReadToml, TheFirstErrorOfTheFileIsReported) {
  EXPECT_CONFIG_ERROR(load_text("[training]\nzzz_first = 1\naaa_second = 1\n"), "zzz_first",
                      "line 2");
}

TEST(ReadToml, SyntaxErrorsNameFileLineAndColumn) {
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = = 5\n"), "run.toml: line 2, column 9",
                      "not valid TOML");
  EXPECT_CONFIG_ERROR(load_text("[training\nsteps = 5\n"), "run.toml: line 1", "not valid TOML");
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = 5\nsteps = 6\n"), "line 3", "steps");
  EXPECT_CONFIG_ERROR(load_text("[job]\ndescription = \"open\n"), "line 2", "not valid TOML");
  EXPECT_CONFIG_ERROR(load_text("[training]\nsteps = 99999999999999999999\n"), "line 2");
  EXPECT_CONFIG_ERROR(load_text("[job]\ndescription = \"\xff\"\n"), "line 2", "not valid TOML");
}

// The documents that configs/schema/toml_plus_plus.h keeps from the faults of toml++. Without it
// only a debug build with sanitizers fails on them.
TEST(ReadToml, DocumentsThatTomlPlusPlusTripsOver) {
  for (const char* text : {"[[=", "[[[a]]]", "[[[1]]]", "[[[]"}) {
    EXPECT_CONFIG_ERROR(load_text(text), "line 1", "not valid TOML");
  }
}

TEST(ReadToml, CharactersOutsideOfAsciiAreNoWhitespace) {
  for (const char* text :
       {"\xc3\xa9", "\xe0\xa4\x85", "\xe2\x82\xac", "\xe4\xb8\xad", "\xef\xbf\xbd"}) {
    EXPECT_CONFIG_ERROR(load_text(std::string("[job]\ndescription = \"a\" ") + text), "line 2",
                        "not valid TOML");
  }
  const std::string folded = "[job]\ndescription = \"\"\"\\\n  \xc2\xa7 1\"\"\"\n";
  EXPECT_EQ(load_text(folded, {"--training.dataset_path=d"}).config.job.description, "\xc2\xa7 1");
}

}  // namespace
}  // namespace tessera
