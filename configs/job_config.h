// JobConfig: everything a run can be told, one plain struct per TOML section.
//
// Sections, keys, types and defaults are TorchTitan's (v0.2.0, with the additions of v0.2.2), so
// that its TOML files load; keys of our own are marked "Tessera". Meaning, unit, limits and what is
// supported stand in configs/schema/config_fields_*.cpp, one line per key, and in
// docs/configuration.md, which is generated from there. An optional that is empty is an unset key.
//
// load_config.h makes a JobConfig from a file and checks it. A JobConfig that is made or changed in
// code is not checked.
//
//   JobConfig config = load_config("configs/llama3_debug.toml", {}).config;
//   config.training.steps = 50;
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

using StringList = std::vector<std::string>;

struct JobSection {
  std::optional<std::string> config_file;
  std::string dump_folder = "./outputs";  // v0.2.2; v0.2.0 had "./torchtitan/outputs"
  std::string description = "default job";
  bool print_config = false;
  std::optional<std::string> save_config_file;
  std::string custom_config_module;
  bool operator==(const JobSection&) const = default;
};

struct Profiling {
  bool enable_profiling = false;
  std::string save_traces_folder = "profile_traces";
  int64_t profile_freq = 10;
  int64_t profiler_active = 1;
  int64_t profiler_warmup = 3;
  bool enable_memory_snapshot = false;
  std::string save_memory_snapshot_folder = "memory_snapshot";
  bool operator==(const Profiling&) const = default;
};

struct Metrics {
  int64_t log_freq = 10;
  bool enable_tensorboard = false;
  bool disable_color_printing = false;
  std::string save_tb_folder = "tb";
  bool save_for_all_ranks = false;
  bool enable_wandb = false;
  bool operator==(const Metrics&) const = default;
};

struct ModelSection {
  std::string name = "llama3";
  std::string flavor = "debugmodel";
  std::string hf_assets_path = "./tests/assets/tokenizer";
  std::optional<std::string> tokenizer_path;
  std::string tokenizer = "auto";  // Tessera
  StringList converters;
  bool print_after_conversion = false;
  std::string attention = "auto";               // Tessera
  std::string attn_mask_type = "block_causal";  // Tessera
  std::string mask;                             // Tessera
  bool operator==(const ModelSection&) const = default;
};

struct Optimizer {
  std::string name = "AdamW";
  double lr = 8e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  std::string implementation = "fused";
  bool early_step_in_backward = false;
  bool operator==(const Optimizer&) const = default;
};

struct LrScheduler {
  int64_t warmup_steps = 200;
  std::optional<int64_t> total_steps;
  std::optional<double> decay_ratio;
  std::string decay_type = "linear";
  double min_lr_factor = 0.0;
  bool operator==(const LrScheduler&) const = default;
};

struct DataLoaderSection {
  int64_t num_workers = 0;
  bool persistent_workers = false;
  bool pin_memory = false;
  std::optional<int64_t> prefetch_factor;
  bool operator==(const DataLoaderSection&) const = default;
};

struct Training {
  std::string dataset = "c4_test";
  std::optional<std::string> dataset_path;  // folder, file or glob, or several between commas
  bool dataset_shuffle = false;             // Tessera
  std::string invalid_utf8 = "replace";     // Tessera
  int64_t local_batch_size = 8;
  int64_t global_batch_size = -1;
  int64_t seq_len = 2048;
  double max_norm = 1.0;
  int64_t steps = 10000;
  bool enable_cpu_offload = false;
  std::string dtype = "float32";
  std::string mixed_precision_param = "bfloat16";
  std::string mixed_precision_reduce = "float32";
  int64_t gc_freq = 50;
  bool gc_debug = false;
  std::optional<int64_t> seed;  // load_config keeps seed and deterministic equal to [debug]'s
  bool deterministic = false;
  bool debug_moe_force_load_balance = false;
  DataLoaderSection dataloader;
  bool operator==(const Training&) const = default;
};

struct Parallelism {
  int64_t data_parallel_replicate_degree = 1;
  bool enable_compiled_autograd = false;
  int64_t data_parallel_shard_degree = -1;
  std::string fsdp_reshard_after_forward = "default";
  int64_t tensor_parallel_degree = 1;
  bool enable_sequence_parallel = true;  // Tessera
  bool disable_loss_parallel = false;
  bool enable_async_tensor_parallel = false;
  int64_t pipeline_parallel_degree = 1;
  std::optional<std::vector<StringList>> module_fqns_per_model_part;
  int64_t pipeline_parallel_first_stage_less_layers = 1;
  int64_t pipeline_parallel_last_stage_less_layers = 1;
  std::optional<int64_t> pipeline_parallel_layers_per_stage;
  std::string pipeline_parallel_schedule = "1F1B";
  std::string pipeline_parallel_schedule_csv;
  int64_t pipeline_parallel_microbatch_size = 1;
  bool pipeline_parallel_expert_parallel_overlap = true;
  int64_t context_parallel_degree = 1;
  std::optional<std::string> context_parallel_load_balancer = "headtail";
  std::string context_parallel_rotate_method = "allgather";
  int64_t expert_parallel_degree = 1;
  int64_t expert_tensor_parallel_degree = 1;
  std::string expert_parallel_comm_backend = "standard";
  bool operator==(const Parallelism&) const = default;
};

struct Checkpoint {
  bool enable = false;
  bool enable_ft_dataloader_checkpoints = true;
  std::string folder = "checkpoint";
  int64_t interval = 500;
  std::optional<std::string> initial_load_path;
  bool initial_load_model_only = true;
  bool initial_load_in_hf = false;
  bool initial_load_in_hf_quantized = false;
  bool last_save_model_only = true;
  bool last_save_in_hf = false;
  std::string export_dtype = "float32";
  std::string async_mode = "disabled";
  int64_t keep_latest_k = 10;
  int64_t load_step = -1;
  StringList exclude_from_loading;
  bool enable_first_step_checkpoint = false;
  bool create_seed_checkpoint = false;
  bool load_only = false;
  bool operator==(const Checkpoint&) const = default;
};

struct ActivationCheckpoint {
  std::string mode = "selective";
  std::string selective_ac_option = "2";
  StringList per_op_sac_force_recompute_mm_shapes_by_fqns = {"moe.router.gate"};
  bool early_stop = false;
  double memory_budget = 0.5;
  bool visualize_memory_budget_pareto = false;
  bool preserve_rng_state = true;
  std::string determinism_check = "default";
  bool debug = false;
  bool operator==(const ActivationCheckpoint&) const = default;
};

struct Compile {
  bool enable = false;
  StringList components = {"model", "loss"};
  std::string backend = "inductor";
  bool operator==(const Compile&) const = default;
};

struct Float8Linear {
  bool enable_fsdp_float8_all_gather = false;
  bool precompute_float8_dynamic_scale_for_fsdp = false;
  std::optional<std::string> recipe_name;
  StringList filter_fqns;
  bool emulate = false;
  bool operator==(const Float8Linear&) const = default;
};

struct MxLinear {
  std::string mxfp8_dim1_cast_kernel_choice = "triton";
  std::string recipe_name = "mxfp8_cublas";
  StringList filter_fqns = {"output"};
  bool operator==(const MxLinear&) const = default;
};

struct Float8GroupedMm {
  StringList fqns;
  bool operator==(const Float8GroupedMm&) const = default;
};

struct MxGroupedMm {
  std::string recipe_name = "mxfp8";
  StringList fqns;
  bool operator==(const MxGroupedMm&) const = default;
};

struct QuantizeLinear {
  Float8Linear float8;
  MxLinear mx;
  bool operator==(const QuantizeLinear&) const = default;
};

struct QuantizeGroupedMm {
  Float8GroupedMm float8;
  MxGroupedMm mx;
  bool operator==(const QuantizeGroupedMm&) const = default;
};

struct Quantize {
  QuantizeLinear linear;
  QuantizeGroupedMm grouped_mm;
  bool operator==(const Quantize&) const = default;
};

struct Comm {
  int64_t init_timeout_seconds = 300;
  int64_t train_timeout_seconds = 100;
  int64_t grace_seconds = 3;
  int64_t trace_buf_size = 20000;
  std::string save_traces_folder = "comm_traces";
  std::string save_traces_file_prefix = "rank_";
  std::string mode = "default";
  bool operator==(const Comm&) const = default;
};

struct MemoryEstimation {
  bool enable = false;
  bool disable_fake_mode = false;
  bool operator==(const MemoryEstimation&) const = default;
};

struct FaultTolerance {
  bool enable = false;
  std::string process_group = "gloo";
  int64_t process_group_timeout_ms = 10000;
  int64_t replica_id = 0;
  int64_t group_size = 0;
  int64_t min_replica_size = 1;
  std::optional<std::string> semi_sync_method;
  bool operator==(const FaultTolerance&) const = default;
};

struct Experimental {
  std::string custom_import;  // paths of shared libraries, separated by commas
  std::string custom_args_module;
  bool operator==(const Experimental&) const = default;
};

struct Validation {
  bool enable = false;
  std::string dataset = "c4_validation";
  std::optional<std::string> dataset_path;
  int64_t local_batch_size = 8;
  int64_t seq_len = 2048;
  int64_t freq = 10;
  int64_t steps = -1;
  DataLoaderSection dataloader;
  bool operator==(const Validation&) const = default;
};

struct Debug {
  std::optional<int64_t> seed;
  bool deterministic = false;
  bool deterministic_warn_only = false;
  bool moe_force_load_balance = false;
  bool operator==(const Debug&) const = default;
};

// The sections in the order of the TOML that to_toml writes.
struct JobConfig {
  JobSection job;
  Profiling profiling;
  Metrics metrics;
  ModelSection model;
  Optimizer optimizer;
  LrScheduler lr_scheduler;
  Training training;
  Parallelism parallelism;
  Checkpoint checkpoint;
  ActivationCheckpoint activation_checkpoint;
  Compile compile;
  Quantize quantize;
  Comm comm;
  MemoryEstimation memory_estimation;
  FaultTolerance fault_tolerance;
  Experimental experimental;
  Validation validation;
  Debug debug;
  bool operator==(const JobConfig&) const = default;
};

// The seed, whichever of [training] and [debug] it was given in; nothing when neither has one.
std::optional<int64_t> seed(const JobConfig& config);

// How training.dataset is read: "text_files", or "jsonl", which TorchTitan's names "c4" and
// "c4_test" mean as well.
std::string dataset_format(const Training& training);

// Rows of one optimizer step over all ranks: training.global_batch_size, or, when that is -1,
// local_batch_size * data_parallel_degree. The degree counts the ranks that read rows of their own.
int64_t global_batch_size(const Training& training, int64_t data_parallel_degree = 1);

// Microbatches that a rank accumulates per optimizer step:
//
//   global_batch_size / (local_batch_size * data_parallel_degree)
//
// The division must be exact; plan_layout (trainer/job/job_layout.h) checks it.
int64_t gradient_accumulation_steps(const Training& training, int64_t data_parallel_degree = 1);

}  // namespace tessera
