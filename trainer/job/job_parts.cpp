#include "trainer/job/job_parts.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <map>
#include <sstream>

#include "trainer/support/device.h"

namespace tessera {
namespace {

std::string mask_description(const ModelSection& model) {
  if (!model.mask.empty()) return "mask " + model.mask;
  return "mask " + model.attn_mask_type;
}

std::string checkpointing_description(int64_t every_n) {
  if (every_n == 0) return "none";
  return every_n == 1 ? "full" : "1 of " + std::to_string(every_n) + " layers";
}

std::string optimizer_description(const JobConfig& config) {
  const Optimizer& o = config.optimizer;
  std::ostringstream text;
  text << o.name << ", lr " << o.lr << ", betas " << o.beta1 << ' ' << o.beta2 << ", eps " << o.eps
       << ", weight decay " << o.weight_decay << ", clip " << config.training.max_norm;
  return text.str();
}

std::string schedule_description(const LrScheduleOptions& options) {
  const LrPhases phases = lr_phases(options);
  return std::to_string(phases.warmup) + " warm-up, " + std::to_string(phases.stable) +
         " stable, " + std::to_string(phases.decay) + " " + std::string(to_string(options.type)) +
         " decay";
}

}  // namespace

std::string attention_backend(const JobConfig& config, at::Device device) {
  if (config.model.attention != "auto") return config.model.attention;
  return device.is_cpu() ? "flex" : "sdpa";
}

World join_world(const Environment& environment, const JobConfig& config, at::Device device) {
  if (environment.world_size == 1) return World();
  return World::connect({.rank = environment.rank,
                         .size = environment.world_size,
                         .address = environment.master_address,
                         .port = environment.master_port,
                         .store_is_served = environment.store_is_served,
                         .attempt = environment.restart_count,
                         .device = device.type(),
                         .device_index = environment.local_rank,
                         .timeout = std::chrono::seconds(config.comm.init_timeout_seconds),
                         .grace = std::chrono::seconds(config.comm.grace_seconds)});
}

WorkWeights work_weights(Model& model) {
  std::map<std::string, double> layers;
  for (const AttentionSite& site : model.attention_sites()) {
    if (site.sequence == MaskSequence::kRow) ++layers[site.kind];
  }
  return {.layers = {layers.begin(), layers.end()}};
}

ContextParallel context_parallel(const JobConfig& config, const DeviceMesh& mesh,
                                 const WorkWeights& weights) {
  const Parallelism& p = config.parallelism;
  // "allgather" and "alltoall" are TorchTitan's two: keys of all ranks gathered, or passed around.
  const std::string& rotate = p.context_parallel_rotate_method;
  const ContextMethod method = rotate == "allgather"  ? ContextMethod::kAllGather
                               : rotate == "alltoall" ? ContextMethod::kRing
                               : rotate == "ulysses"  ? ContextMethod::kAllToAll
                                                      : ContextMethod::kNeededKv;
  return {mesh.cp(), load_balancer(p.context_parallel_load_balancer.value_or("contiguous")), method,
          weights};
}

ModelRequest model_request(const JobConfig& config, at::Device device) {
  return {.name = config.model.name,
          .flavor = config.model.flavor,
          .attention = attention_backend(config, device),
          .attn_mask_type = config.model.attn_mask_type,
          .mask = config.model.mask,
          .max_seq_len = config.training.seq_len};
}

MakeModel model_maker(const JobConfig& config, at::Device device, const Registries& registries) {
  ModelRequest request = model_request(config, device);
  request.mask_registry = registries.masks;
  return [request, attention = registries.attention](const ModelPlacement& placement) {
    return make_model(request, attention, placement);
  };
}

CreateMaskFn mask_function(const JobConfig& config, at::Device device, const Registries& registries,
                           const MaskConfig& mask_config) {
  const std::string form = registries.attention.mask_form(attention_backend(config, device));
  return registries.masks.create_mask_fn(form, mask_config);
}

ParameterStoreOptions parameter_store_options(const JobConfig& config, at::Device device) {
  const std::string& reshard = config.parallelism.fsdp_reshard_after_forward;
  return {.device = device,
          .storage_device = config.training.enable_cpu_offload ? at::Device(at::kCPU) : device,
          .master_dtype = scalar_type(config.training.dtype),
          .compute_dtype = scalar_type(config.training.mixed_precision_param),
          .reshard_after_forward =
              reshard == "always" ||
              (reshard == "default" && config.parallelism.pipeline_parallel_degree == 1),
          .reshard_last_block = reshard == "always"};
}

RankModelOptions rank_model_options(const JobConfig& config, const JobLayout& layout,
                                    const DeviceMesh& mesh, at::Device device,
                                    const WorkWeights& weights) {
  return {.mesh = mesh,
          .pipeline = layout.pipeline,
          .sequence_parallel = config.parallelism.enable_sequence_parallel,
          .context = context_parallel(config, mesh, weights),
          .recompute_every_nth_layer = recompute_every_nth_layer(config),
          .parameters = parameter_store_options(config, device),
          .seed = job_seed(config)};
}

TrainingStepOptions training_step_options(const JobConfig& config) {
  const Optimizer& o = config.optimizer;
  return {
      .max_norm = config.training.max_norm,
      .adamw = {.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .weight_decay = o.weight_decay}};
}

LrScheduleOptions lr_schedule_options(const JobConfig& config) {
  const LrScheduler& s = config.lr_scheduler;
  return {.steps = s.total_steps.value_or(config.training.steps),
          .warmup_steps = s.warmup_steps,
          .decay_ratio = s.decay_ratio,
          .type = decay_type_from_string(s.decay_type),
          .min_lr_factor = s.min_lr_factor};
}

int64_t recompute_every_nth_layer(const JobConfig& config) {
  const ActivationCheckpoint& ac = config.activation_checkpoint;
  if (ac.mode == "none") return 0;
  return ac.mode == "full" ? 1 : std::stoll(ac.selective_ac_option);
}

uint64_t job_seed(const JobConfig& config) {
  return static_cast<uint64_t>(seed(config).value_or(0));
}

std::unique_ptr<TextSource> open_dataset(const JobConfig& config) {
  const Training& t = config.training;
  return open_text_source(
      {.dataset = dataset_format(t), .dataset_path = t.dataset_path.value_or("")});
}

std::shared_ptr<const Tokenizer> open_tokenizer(const JobConfig& config,
                                                const Registries& registries) {
  return open_tokenizer(
      {.tokenizer = config.model.tokenizer, .assets_path = config.model.hf_assets_path},
      registries.tokenizers);
}

DataLoaderOptions dataloader_options(const JobConfig& config) {
  const Training& t = config.training;
  return {
      .seq_len = t.seq_len,
      .shuffle = t.dataset_shuffle,
      .seed = job_seed(config),
      .invalid_utf8 = t.invalid_utf8 == "refuse" ? InvalidUtf8::kRefuse : InvalidUtf8::kReplace};
}

int64_t expected_output_bytes(const JobConfig& config, int64_t num_parameters) {
  constexpr int64_t kBytesPerRecord = 400;
  constexpr int64_t kPlotAndLog = 2 << 20;
  // Weights and two moments; one checkpoint is kept while the next is written.
  const int64_t checkpoint = config.checkpoint.enable ? 2 * 3 * 4 * num_parameters : 0;
  return kPlotAndLog + kBytesPerRecord * config.training.steps + checkpoint;
}

BannerInfo banner_info(const JobConfig& config, const JobLayout& layout, Model& model,
                       const Tokenizer& tokenizer, int64_t num_documents, at::Device device) {
  const Training& t = config.training;
  const std::string name = device_name(device);
  return {.version = TESSERA_VERSION,
          .model = model.description(),
          .num_parameters = model.num_parameters(),
          .layout = std::to_string(layout.num_ranks) +
                    (layout.num_ranks == 1 ? " rank: " : " ranks: ") + layout.dims.to_string(),
          .device = device.str() + (name.empty() ? "" : " (" + name + ")"),
          .dtype = "parameters " + t.dtype + ", compute " + t.mixed_precision_param,
          .attention = attention_backend(config, device) + ", " + mask_description(config.model),
          .activation_checkpoint = checkpointing_description(recompute_every_nth_layer(config)),
          .local_batch_size = t.local_batch_size,
          .seq_len = t.seq_len,
          .num_microbatches = layout.num_microbatches,
          .num_data_ranks = layout.num_data_ranks,
          .optimizer = optimizer_description(config),
          .schedule = schedule_description(lr_schedule_options(config)),
          .num_steps = t.steps,
          .dataset = t.dataset,
          .dataset_path = t.dataset_path.value_or(""),
          .num_documents = num_documents,
          .tokenizer = tokenizer.name() + " (" + std::to_string(tokenizer.vocab_size()) + " ids)",
          .num_threads = at::get_num_threads(),
          .seed = static_cast<int64_t>(job_seed(config)),
          .dump_folder = config.job.dump_folder};
}

}  // namespace tessera
