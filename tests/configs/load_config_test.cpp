#include "configs/load_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/configs/config_test_support.h"

namespace tessera {
namespace {

using ::testing::IsEmpty;
using testing::load_text;
using testing::TempDir;

std::filesystem::path recipes() { return std::filesystem::path(TESSERA_SOURCE_DIR) / "configs"; }

TEST(LoadConfig, CommandLineBeatsFileBeatsDefault) {
  const std::string toml = "[training]\ndataset_path = \"d\"\nsteps = 300\nseq_len = 64\n";
  const JobConfig config = load_text(toml, {"--training.steps=400"}).config;
  EXPECT_EQ(config.training.steps, 400);
  EXPECT_EQ(config.training.seq_len, 64);
  EXPECT_EQ(config.training.local_batch_size, 8);
}

// A value that the command line replaces need not be right in the file, as long as it has the right
// type.
TEST(LoadConfig, OnlyTheFinalValueIsChecked) {
  const std::string toml = "[training]\ndataset_path = \"d\"\nsteps = 0\n";
  EXPECT_EQ(load_text(toml, {"--training.steps=400"}).config.training.steps, 400);
  EXPECT_CONFIG_ERROR(load_text(toml), "training.steps", "line 3");
}

TEST(LoadConfig, ConfigFileMayComeFromTheCommandLine) {
  const TempDir folder;
  const std::string path = folder.write("a.toml", "[training]\ndataset_path = \"d\"\n");
  for (const std::string flag : {"--job.config_file=", "--job.config-file="}) {
    EXPECT_EQ(load_config("", {flag + path}).config.training.dataset_path, "d");
  }
  EXPECT_EQ(load_config("", {"--job.config_file", path}).config.job.config_file, path);
  EXPECT_EQ(load_config(path, {"--job.config_file", path}).config.job.config_file, path);
  EXPECT_EQ(load_config(path, {}).config.job.config_file, path);
  EXPECT_CONFIG_ERROR(load_config(path, {"--job.config_file=other.toml"}), "job.config_file",
                      "already given", "\"other.toml\"", "(command line)");
  EXPECT_CONFIG_ERROR(load_config(path, {"--job.config_file=none"}), "job.config_file",
                      "already given", "got none");
  EXPECT_CONFIG_ERROR(load_config("", {"--job.config_file=a", "--job.config_file=b.toml"}),
                      "b.toml");
}

TEST(LoadConfig, WithoutAFileTheDefaultsApply) {
  const JobConfig config = load_config("", {"--training.dataset_path=d"}).config;
  JobConfig expected;
  expected.training.dataset_path = "d";
  EXPECT_EQ(config, expected);
}

TEST(LoadConfig, FilesThatCannotBeRead) {
  const TempDir folder;
  EXPECT_CONFIG_ERROR(load_config((folder.path() / "none.toml").string(), {}), "none.toml",
                      "no such configuration file", "working folder", "configs/*.toml");
  EXPECT_CONFIG_ERROR(load_config(folder.path().string(), {}), "got a folder");
  const std::string large = folder.write("large.toml", std::string(70000, '#'));
  EXPECT_CONFIG_ERROR(load_config(large, {}), "large.toml", "at most 64 KiB");
  const std::string empty = folder.write("empty.toml", "");
  EXPECT_CONFIG_ERROR(load_config(empty, {}), "training.dataset_path");
  EXPECT_NO_THROW(load_config(empty, {"--training.dataset_path=d"}));
}

TEST(LoadConfig, EveryShippedRecipeLoads) {
  int num_recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(recipes())) {
    if (entry.path().extension() != ".toml") continue;
    ++num_recipes;
    EXPECT_THAT(load_config(entry.path().string(), {}).warnings, IsEmpty()) << entry.path();
  }
  EXPECT_EQ(num_recipes, 4);
}

TEST(LoadConfig, DebugRecipe) {
  const JobConfig config = load_config((recipes() / "llama3_debug.toml").string(), {}).config;
  EXPECT_EQ(config.model.name, "llama3");
  EXPECT_EQ(config.model.flavor, "debugmodel");
  EXPECT_EQ(config.optimizer.lr, 8e-4);
  EXPECT_EQ(config.lr_scheduler.warmup_steps, 2);
  EXPECT_EQ(config.lr_scheduler.decay_ratio, 0.8);
  EXPECT_EQ(config.training.dataset, "text_files");
  EXPECT_EQ(config.training.dataset_path, ".venv/lib/python3*/site-packages/torch");
  EXPECT_TRUE(config.training.dataset_shuffle);
  EXPECT_EQ(config.training.mixed_precision_param, "float32");
  EXPECT_EQ(seed(config), 42);
  EXPECT_EQ(config.activation_checkpoint.mode, "none");
}

struct LargeRecipe {
  const char* file;
  const char* flavor;
  double lr;
  int64_t warmup_steps;
  int64_t steps;
  int64_t local_batch_size;
};

// TorchTitan's hyperparameters, from the table of its recipes in v0.2.0.
TEST(LoadConfig, LargeRecipesHaveTorchTitansHyperparameters) {
  for (const LargeRecipe& recipe : {LargeRecipe{"llama3_8b.toml", "8B", 3e-4, 200, 1000, 1},
                                    LargeRecipe{"llama3_70b.toml", "70B", 1.5e-4, 200, 1000, 8},
                                    LargeRecipe{"llama3_405b.toml", "405B", 8e-5, 600, 3000, 2}}) {
    const JobConfig config = load_config((recipes() / recipe.file).string(), {}).config;
    EXPECT_EQ(config.model.flavor, recipe.flavor);
    EXPECT_EQ(config.optimizer.lr, recipe.lr);
    EXPECT_EQ(config.lr_scheduler.warmup_steps, recipe.warmup_steps);
    EXPECT_EQ(config.training.steps, recipe.steps);
    EXPECT_EQ(config.training.local_batch_size, recipe.local_batch_size);
    EXPECT_EQ(config.training.seq_len, 8192);
    EXPECT_EQ(config.training.dataset, "c4");
  }
}

// The keys and values that TorchTitan v0.2.0 and v0.2.2 ship for the Llama 3 debug model.
constexpr const char* kTorchTitanDebug = R"(
[job]
dump_folder = "./outputs"
description = "Llama 3 debug training"
print_config = false

[profiling]
enable_profiling = false
save_traces_folder = "profile_trace"
profile_freq = 10
enable_memory_snapshot = false
save_memory_snapshot_folder = "memory_snapshot"

[metrics]
log_freq = 1
disable_color_printing = false
enable_tensorboard = false
save_tb_folder = "tb"
enable_wandb = false

[model]
name = "llama3"
flavor = "debugmodel"
hf_assets_path = "./tests/assets/tokenizer"

[optimizer]
name = "AdamW"
lr = 8e-4
eps = 1e-8

[lr_scheduler]
warmup_steps = 2
decay_ratio = 0.8
decay_type = "linear"
min_lr_factor = 0.0

[training]
local_batch_size = 8
seq_len = 2048
max_norm = 1.0
steps = 10
dataset = "c4_test"

[parallelism]
data_parallel_replicate_degree = 1
data_parallel_shard_degree = -1
fsdp_reshard_after_forward = "default"
tensor_parallel_degree = 1
enable_async_tensor_parallel = false
pipeline_parallel_degree = 1
pipeline_parallel_schedule = "Interleaved1F1B"
context_parallel_degree = 1

[checkpoint]
enable = false
folder = "checkpoint"
interval = 10
last_save_model_only = false
export_dtype = "float32"
async_mode = "disabled"

[activation_checkpoint]
mode = "selective"
selective_ac_option = '2'

[compile]
enable=false
components = ["model", "loss"]

[quantize.linear.float8]
enable_fsdp_float8_all_gather = false
precompute_float8_dynamic_scale_for_fsdp = false
filter_fqns = ["output"]

[validation]
enable = false
dataset = "c4_validation"
freq = 5
steps = 10
)";

TEST(LoadConfig, TorchTitansDebugRecipeLoads) {
  EXPECT_CONFIG_ERROR(load_text(kTorchTitanDebug), "training.dataset_path", "c4_test");
  const LoadedConfig loaded =
      load_text(kTorchTitanDebug, {"--training.dataset", "text_files", "--training.dataset_path",
                                   "src", "--training.no_deterministic"});
  EXPECT_THAT(loaded.warnings, IsEmpty());
  EXPECT_EQ(loaded.config.metrics.log_freq, 1);
  EXPECT_EQ(loaded.config.training.steps, 10);
  EXPECT_EQ(loaded.config.training.dataset, "text_files");
  EXPECT_EQ(loaded.config.activation_checkpoint.selective_ac_option, "2");
  EXPECT_FALSE(loaded.config.checkpoint.last_save_model_only);
}

}  // namespace
}  // namespace tessera
