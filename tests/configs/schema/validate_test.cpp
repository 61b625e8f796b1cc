// Ranges, choices, what is supported, and values that contradict each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "configs/schema/config_fields.h"
#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::load_flags;
using testing::load_text;

struct BadValue {
  std::string key;
  std::string value;
  std::string expected;
};

void expect_refused(const std::vector<BadValue>& cases) {
  for (const BadValue& bad : cases) {
    const std::string message =
        testing::config_error_of([&] { load_flags({"--" + bad.key + "=" + bad.value}); });
    EXPECT_THAT(message, HasSubstr(bad.key)) << bad.value;
    EXPECT_THAT(message, HasSubstr(bad.expected)) << bad.key << "=" << bad.value;
    EXPECT_THAT(message, HasSubstr(bad.value)) << bad.key;
    EXPECT_THAT(message, HasSubstr("(command line)")) << bad.key << "=" << bad.value;
  }
}

TEST(Validate, Ranges) {
  expect_refused({
      {"training.steps", "0", "an integer at least 1, got 0"},
      {"training.steps", "-5", "at least 1"},
      {"training.seq_len", "0", "at least 1"},
      {"training.local_batch_size", "0", "at least 1"},
      {"training.global_batch_size", "0", "at least 1, or -1"},
      {"training.global_batch_size", "-2", "at least 1, or -1"},
      {"training.max_norm", "0", "a finite number greater than 0"},
      {"training.max_norm", "inf", "a finite number greater than 0"},
      {"training.seed", "-1", "at least 0"},
      {"debug.seed", "-1", "at least 0"},
      {"optimizer.lr", "0", "greater than 0"},
      {"optimizer.lr", "-0.001", "greater than 0"},
      {"optimizer.lr", "nan", "greater than 0"},
      {"optimizer.lr", "inf", "greater than 0"},
      {"optimizer.beta1", "1", "from 0 to 1 (excluded)"},
      {"optimizer.beta2", "-0.1", "from 0 to 1 (excluded)"},
      {"optimizer.eps", "-1", "at least 0"},
      {"optimizer.weight_decay", "-0.1", "at least 0"},
      {"lr_scheduler.warmup_steps", "-1", "at least 0"},
      {"lr_scheduler.total_steps", "0", "at least 1"},
      {"lr_scheduler.decay_ratio", "1.5", "from 0 to 1"},
      {"lr_scheduler.decay_ratio", "-0.5", "from 0 to 1"},
      {"lr_scheduler.min_lr_factor", "1.01", "from 0 to 1"},
      {"metrics.log_freq", "0", "at least 1"},
      {"profiling.profile_freq", "0", "at least 1"},
      {"checkpoint.interval", "0", "at least 1"},
      {"checkpoint.keep_latest_k", "1", "at least 2, or 0"},
      {"checkpoint.keep_latest_k", "-1", "at least 2, or 0"},
      {"checkpoint.load_step", "-2", "at least 0, or -1"},
      {"comm.init_timeout_seconds", "0", "at least 1"},
      {"comm.grace_seconds", "0", "at least 1"},
      {"parallelism.tensor_parallel_degree", "0", "at least 1"},
      {"parallelism.data_parallel_shard_degree", "0", "at least 1, or -1"},
      {"activation_checkpoint.memory_budget", "2", "from 0 to 1"},
  });
}

TEST(Validate, EndsOfRangesAreAllowed) {
  const JobConfig config =
      load_flags({"--training.steps=1", "--training.seq_len=1", "--optimizer.beta1=0",
                  "--optimizer.eps=0", "--optimizer.weight_decay=0",
                  "--lr_scheduler.warmup_steps=0", "--lr_scheduler.decay_ratio=1",
                  "--lr_scheduler.min_lr_factor=1", "--metrics.log_freq=1",
                  "--checkpoint.keep_latest_k=0", "--checkpoint.load_step=0", "--training.seed=0"})
          .config;
  EXPECT_EQ(config.checkpoint.keep_latest_k, 0);
  EXPECT_EQ(config.lr_scheduler.decay_ratio, 1.0);
  EXPECT_EQ(load_flags({"--checkpoint.keep_latest_k=2"}).config.checkpoint.keep_latest_k, 2);
}

// Every floating-point key must refuse NaN and infinity, which TOML can write.
TEST(Validate, FloatsAreFinite) {
  int num_floats = 0;
  for (const configs::ConfigSection& section : configs::config_sections()) {
    for (const configs::Field& field : section.fields) {
      if (field.type != configs::ValueType::kFloat) continue;
      ++num_floats;
      for (const char* value : {"nan", "inf", "-inf"}) {
        EXPECT_CONFIG_ERROR(
            load_text("training.dataset_path = \"d\"\n" + field.name() + " = " + value + "\n"),
            field.name(), "expected a finite number", std::string("got ") + value, "line 2");
      }
    }
  }
  EXPECT_EQ(num_floats, 9);
}

TEST(Validate, ChoicesAreListed) {
  expect_refused({
      {"lr_scheduler.decay_type", "exp", R"(one of "linear", "sqrt", "cosine", got "exp")"},
      {"training.dataset", "c5", R"("text_files", "jsonl", "c4", "c4_test")"},
      {"training.invalid_utf8", "skip", R"("replace", "refuse")"},
      {"training.dtype", "float16", R"("bfloat16", "float32")"},
      {"training.mixed_precision_param", "float64", R"("bfloat16", "float32")"},
      {"training.mixed_precision_reduce", "bfloat16", R"("float32")"},
      {"model.attn_mask_type", "full", R"("causal", "block_causal")"},
      {"optimizer.name", "SGD", R"("Adam", "AdamW")"},
      {"optimizer.implementation", "slow", R"("for-loop", "foreach", "fused")"},
      {"checkpoint.export_dtype", "int8", R"("float16", "bfloat16", "float32")"},
      {"checkpoint.async_mode", "on", R"("disabled", "async", "async_with_pinned_mem")"},
      {"activation_checkpoint.mode", "some", R"("selective", "full", "memory_budget", "none")"},
      {"compile.components", "optimizer", R"("model", "loss")"},
      {"parallelism.fsdp_reshard_after_forward", "often", R"("default", "always", "never")"},
      {"parallelism.context_parallel_load_balancer", "x", R"("headtail", "ptrr")"},
      {"comm.mode", "loud", R"("default", "fake_backend", "local_tensor")"},
  });
}

TEST(Validate, EmptyNames) {
  for (const char* key : {"job.dump_folder", "model.name", "model.flavor", "model.attention",
                          "model.tokenizer", "checkpoint.folder", "training.dataset_path"}) {
    EXPECT_CONFIG_ERROR(load_flags({std::string("--") + key + "="}), key, "not empty", "got \"\"");
  }
}

TEST(Validate, WhatIsNotSupportedYetIsRefusedByName) {
  expect_refused({
      {"profiling.enable_memory_snapshot", "true", "not supported"},
      {"metrics.enable_tensorboard", "true", "not supported"},
      {"metrics.enable_wandb", "true", "not supported"},
      {"metrics.save_for_all_ranks", "true", "not supported"},
      {"model.hf_assets_path", "./assets/hf", R"(supported: "./tests/assets/tokenizer", "")"},
      {"model.tokenizer_path", "x", "supported: none"},
      {"model.converters", "float8", "supported: []"},
      {"optimizer.name", "Adam", R"(supported: "AdamW")"},
      {"optimizer.implementation", "foreach", "the others give the same numbers"},
      {"optimizer.implementation", "for-loop", R"(supported: "fused")"},
      {"optimizer.early_step_in_backward", "true", "not supported"},
      {"training.gc_debug", "true", "no Python"},
      {"training.dataloader.num_workers", "4", "supported: 0"},
      {"parallelism.expert_parallel_degree", "2", "supported: 1"},
      {"parallelism.expert_tensor_parallel_degree", "2", "supported: 1"},
      {"parallelism.enable_async_tensor_parallel", "true", "not supported"},
      {"checkpoint.async_mode", "async", R"(supported: "disabled")"},
      {"checkpoint.initial_load_model_only", "false", "supported: true"},
      {"checkpoint.last_save_in_hf", "true", "not supported"},
      {"checkpoint.create_seed_checkpoint", "true", "the same under any layout"},
      {"checkpoint.exclude_from_loading", "optimizer", "supported: []"},
      {"activation_checkpoint.mode", "memory_budget", R"(supported: "none", "full", "selective")"},
      {"compile.enable", "true", "not supported"},
      {"quantize.linear.float8.enable_fsdp_float8_all_gather", "true", "not supported"},
      {"quantize.linear.float8.recipe_name", "rowwise", "supported: none"},
      {"quantize.grouped_mm.mx.fqns", "experts", "supported: []"},
      {"comm.mode", "fake_backend", R"(supported: "default")"},
      {"memory_estimation.enable", "true", "not supported"},
      {"fault_tolerance.enable", "true", "not supported"},
      {"job.custom_config_module", "mine", R"(supported: "")"},
      {"validation.enable", "true", "not supported"},
  });
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset_path=\"d\"\n[parallelism]\n\n"
                                "expert_parallel_degree = 8\n"),
                      "parallelism.expert_parallel_degree: 8 is not supported; supported: 1",
                      "line 5, column 26");
}

TEST(Validate, DefaultsOfAllKeysAreAccepted) {
  EXPECT_THAT(load_text(to_toml(load_flags({}).config)).warnings, ElementsAre());
}

TEST(Validate, WhatHasNoEffectTakesAnyAllowedValue) {
  EXPECT_NO_THROW(load_flags({
      "--training.gc_freq=1",
      "--training.deterministic",
      "--comm.init_timeout_seconds=600",
      "--comm.trace_buf_size=0",
      "--compile.backend=other",
      "--profiling.save_traces_folder=t",
      "--metrics.save_tb_folder=t",
      "--parallelism.pipeline_parallel_schedule=Interleaved1F1B",
      "--parallelism.fsdp_reshard_after_forward=never",
      "--parallelism.data_parallel_shard_degree=1",
      "--validation.dataset=c4",
      "--validation.freq=5",
      "--quantize.linear.float8.filter_fqns=output",
      "--activation_checkpoint.memory_budget=0.1",
      "--fault_tolerance.replica_id=3",
  }));
}

TEST(Validate, SelectiveActivationCheckpointing) {
  const std::string option = "--activation_checkpoint.selective_ac_option=";
  const std::string mode = "--activation_checkpoint.mode=";
  EXPECT_EQ(load_flags({option + "12"}).config.activation_checkpoint.selective_ac_option, "12");
  EXPECT_CONFIG_ERROR(load_flags({option + "op"}), "activation_checkpoint.selective_ac_option",
                      "\"op\" is not supported yet", "(command line)");
  EXPECT_NO_THROW(load_flags({option + "op", mode + "full"}));
  EXPECT_NO_THROW(load_flags({option + "op", mode + "none"}));
  for (const char* bad : {"0", "-1", "two", "1.5", "", "02", "99999999999"}) {
    EXPECT_CONFIG_ERROR(load_flags({option + bad}), "activation_checkpoint.selective_ac_option",
                        "positive whole number", std::string("got \"") + bad + "\"");
  }
}

TEST(Validate, DatasetPathIsNeeded) {
  EXPECT_CONFIG_ERROR(load_config("", {}), "training.dataset_path", "\"c4_test\"",
                      "nothing is downloaded");
  EXPECT_CONFIG_ERROR(load_text("[training]\ndataset = \"c4\"\n"), "training.dataset_path",
                      "training.dataset is \"c4\"", "got none", "line 2");
  EXPECT_CONFIG_ERROR(load_config("", {"--training.dataset=text_files"}), "training.dataset_path",
                      "folder, file or glob");
  for (const char* name : {"c4", "c4_test", "jsonl", "text_files"}) {
    EXPECT_EQ(load_flags({std::string("--training.dataset=") + name}).config.training.dataset,
              name);
  }
}

TEST(Validate, GlobalBatchIsAMultipleOfTheLocalOne) {
  EXPECT_EQ(
      gradient_accumulation_steps(load_flags({"--training.global_batch_size=24"}).config.training),
      3);
  EXPECT_CONFIG_ERROR(load_flags({"--training.global_batch_size=12"}), "training.global_batch_size",
                      "multiple of local_batch_size x data-parallel degree = 8 x 1, got 12",
                      "(command line)");
  EXPECT_CONFIG_ERROR(load_flags({"--training.global_batch_size=4"}), "8 x 1, got 4");
}

TEST(Validate, LongWarmupIsShortenedWithAWarning) {
  const LoadedConfig loaded = load_flags({"--training.steps=50"});  // the default warm-up is 200
  EXPECT_EQ(loaded.config.lr_scheduler.warmup_steps, 50);
  EXPECT_THAT(loaded.warnings,
              ElementsAre("lr_scheduler.warmup_steps = 200 is longer than training.steps = 50; "
                          "shortened to 50 (default)"));
  const LoadedConfig with_total = load_flags(
      {"--training.steps=50", "--lr_scheduler.total_steps=100", "--lr_scheduler.warmup_steps=300"});
  EXPECT_EQ(with_total.config.lr_scheduler.warmup_steps, 100);
  EXPECT_THAT(with_total.warnings, ElementsAre(HasSubstr("lr_scheduler.total_steps = 100")));
  EXPECT_THAT(load_flags({"--training.steps=200"}).warnings, ElementsAre());
}

TEST(Validate, LongDecayIsReported) {
  const std::vector<std::string> base = {"--training.steps=10", "--lr_scheduler.decay_ratio=0.8"};
  std::vector<std::string> exact = base;
  exact.push_back("--lr_scheduler.warmup_steps=2");
  EXPECT_THAT(load_flags(exact).warnings, ElementsAre());
  std::vector<std::string> long_decay = base;
  long_decay.push_back("--lr_scheduler.warmup_steps=3");
  const LoadedConfig loaded = load_flags(long_decay);
  EXPECT_THAT(
      loaded.warnings,
      ElementsAre("lr_scheduler.decay_ratio = 0.8 of training.steps = 10 does not fit after "
                  "lr_scheduler.warmup_steps = 3; the decay is shortened to 7 steps "
                  "(command line)"));
  EXPECT_EQ(loaded.config.lr_scheduler.decay_ratio, 0.8);
}

TEST(Validate, ScheduleIsNotShorterThanTheRun) {
  EXPECT_CONFIG_ERROR(load_flags({"--training.steps=300", "--lr_scheduler.total_steps=299"}),
                      "lr_scheduler.total_steps", "at least training.steps = 300, got 299");
  EXPECT_EQ(load_flags({"--training.steps=300", "--lr_scheduler.total_steps=300"})
                .config.lr_scheduler.total_steps,
            300);
}

TEST(Validate, SeedHasTwoHomes) {
  const std::string data = "[training]\ndataset_path = \"d\"\n";
  const JobConfig from_debug = load_text(data + "[debug]\nseed = 3\ndeterministic = true\n").config;
  EXPECT_EQ(seed(from_debug), 3);
  EXPECT_EQ(from_debug.training.seed, 3);
  EXPECT_TRUE(from_debug.training.deterministic);
  const JobConfig from_training = load_text(data + "seed = 4\n").config;
  EXPECT_EQ(seed(from_training), 4);
  EXPECT_EQ(from_training.debug.seed, 4);
  EXPECT_EQ(seed(load_text(data + "seed = 3\n[debug]\nseed = 3\n").config), 3);
  EXPECT_CONFIG_ERROR(load_text(data + "seed = 3\n[debug]\nseed = 4\n"), "debug.seed: is 4",
                      "training.seed is 3", "line 5");
  EXPECT_CONFIG_ERROR(load_text(data + "deterministic = true\n[debug]\ndeterministic = false\n"),
                      "debug.deterministic: is false", "training.deterministic is true");
}

TEST(Validate, CommandLineBeatsTheFileInBothHomesOfTheSeed) {
  const std::string toml = "[training]\ndataset_path = \"d\"\nseed = 3\n[debug]\nseed = 3\n";
  EXPECT_EQ(seed(load_text(toml, {"--training.seed=5"}).config), 5);
  EXPECT_EQ(seed(load_text(toml, {"--debug.seed=6"}).config), 6);
  EXPECT_FALSE(seed(load_text(toml, {"--training.seed=none"}).config).has_value());
  EXPECT_CONFIG_ERROR(load_text(toml, {"--training.seed=5", "--debug.seed=6"}), "debug.seed: is 6",
                      "training.seed is 5", "(command line)");
}

TEST(Validate, Loading) {
  EXPECT_CONFIG_ERROR(load_flags({"--checkpoint.initial_load_in_hf"}),
                      "checkpoint.initial_load_in_hf", "checkpoint.initial_load_path is none");
  EXPECT_THAT(load_flags({"--checkpoint.initial_load_path=a"}).warnings,
              ElementsAre(HasSubstr("checkpoint.initial_load_path = \"a\" has no effect because "
                                    "checkpoint.enable = false")));
  EXPECT_THAT(load_flags({"--checkpoint.initial_load_path=a", "--checkpoint.enable",
                          "--checkpoint.initial_load_in_hf"})
                  .warnings,
              ElementsAre());
}

}  // namespace
}  // namespace tessera
