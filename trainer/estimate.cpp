#include "trainer/estimate.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

#include "attention/registry.h"
#include "configs/load_config.h"
#include "models/llama3/costs.h"
#include "parallel/activation_checkpoint.h"
#include "parallel/fsdp/sharded_parameters.h"
#include "parallel/fsdp/step_bytes.h"
#include "trainer/extensions.h"
#include "trainer/job_parts.h"
#include "trainer/loss.h"

namespace tessera {
namespace {

int64_t element_bytes(at::ScalarType dtype) {
  return static_cast<int64_t>(c10::elementSize(dtype));
}

// The job as rank 0 would build it: groups without connections, parameters without storage.
struct PlannedJob {
  PlannedJob(const JobConfig& job_config, int64_t num_ranks)
      : config(job_config),
        layout(plan_layout(config, num_ranks)),
        mesh(World::planned(0, num_ranks), layout.dims),
        options(parameter_store_options(config, at::kCPU)),
        master_bytes(element_bytes(options.master_dtype)),
        compute_bytes(element_bytes(options.compute_dtype)) {
    Registries registries = make_registries(config.experimental.custom_import);
    ModelRequest request = model_request(config, at::kCPU);
    request.mask_registry = registries.masks;
    model = make_model(request, registries.attention, model_placement(config, mesh));
    llama = dynamic_cast<const Llama3*>(model.get());
    TORCH_CHECK(llama != nullptr, "tessera estimate has no formulas for model ",
                model->description(), "; expected llama3");
    layouts = shard_layouts(model->blocks(), mesh.shard().size());
  }

  int64_t statistic_bytes() const { return options.compute_dtype == at::kDouble ? 8 : 4; }

  Llama3Step microbatch() const {
    return {.rows = config.training.local_batch_size,
            .seq_len = config.training.seq_len,
            .tp = layout.dims.tp,
            .sequence_parallel = config.parallelism.enable_sequence_parallel,
            .recompute_every = recompute_every_nth_layer(config),
            .activation_bytes = compute_bytes,
            .statistic_bytes = statistic_bytes()};
  }

  const JobConfig& config;
  JobLayout layout;
  DeviceMesh mesh;
  ParameterStoreOptions options;
  int64_t master_bytes, compute_bytes;
  std::unique_ptr<Model> model;
  const Llama3* llama = nullptr;
  std::vector<ShardLayout> layouts;
};

void check_axes(const JobLayout& layout) {
  if (layout.dims.pp > 1 || layout.dims.cp > 1) {
    throw ConfigError("tessera estimate does not know pipeline and context parallelism yet: got " +
                      layout.dims.to_string() + ", expected cp 1 and pp 1");
  }
}

ShardedStepBytes sharded_bytes(const PlannedJob& job) {
  const int64_t num_in_flight = job.options.device.is_cpu() ? 0 : 1;
  return sharded_step_bytes(job.layouts, llama3_block_uses(job.llama->config()),
                            {.num_shard_ranks = job.mesh.shard().size(),
                             .num_replicate_ranks = job.mesh.replicate().size(),
                             .num_microbatches = job.layout.num_microbatches,
                             .master_bytes = job.master_bytes,
                             .compute_bytes = job.compute_bytes,
                             .reshard_after_forward = job.options.reshard_after_forward,
                             .reshard_last_block = job.options.reshard_last_block,
                             .num_reductions_in_flight = num_in_flight,
                             .bucket_bytes = job.options.bucket_bytes});
}

// Elements of this rank's parts of parameters that tensor parallelism has not cut, whose gradients
// are summed over its ranks under sequence parallelism (sum_whole_gradients_over_tensor).
int64_t summed_over_tensor_numel(const PlannedJob& job) {
  if (job.mesh.tp().size() == 1 || !job.options.sum_whole_gradients_over_tensor) return 0;
  int64_t numel = 0;
  const std::vector<Block*> blocks = job.model->blocks();
  for (size_t u = 0; u < blocks.size(); ++u) {
    for (size_t i = 0; i < blocks[u]->slots.size(); ++i) {
      const ParameterShard& place = job.layouts[u].parameters[i];
      if (blocks[u]->slots[i].part) continue;
      numel += place.rows_of(job.mesh.shard().rank()).size() * place.row_numel;
    }
  }
  return numel;
}

struct LossSizes {
  int64_t tokens = 0;   // of a microbatch
  int64_t chunk = 0;    // whose logits are there at once
  int64_t columns = 0;  // of the vocabulary, on this rank
  int64_t num_chunks() const { return (tokens + chunk - 1) / chunk; }
};

LossSizes loss_sizes(const PlannedJob& job) {
  const Training& t = job.config.training;
  LossSizes sizes{.tokens = t.local_batch_size * t.seq_len,
                  .columns = job.model->head_weight().size(0)};
  sizes.chunk = std::min(loss_chunk_tokens(sizes.columns), sizes.tokens);
  return sizes;
}

// cross_entropy_sum: in forward logits, log softmax and their gradient of one chunk beside the
// gradients of hidden states and head; in backward these gradients and their scaled copies.
int64_t loss_memory(const PlannedJob& job) {
  const LossSizes sizes = loss_sizes(job);
  const int64_t e = job.compute_bytes, f = job.statistic_bytes();
  const int64_t dim = job.llama->config().dim;
  const bool is_cast = e != f;
  const int64_t chunk = sizes.chunk * sizes.columns * (is_cast ? 2 * e + 2 * f : 2 * f);
  const int64_t hidden = sizes.tokens * dim * e, weight = sizes.columns * dim * f;
  const int64_t product = is_cast ? sizes.columns * dim * e : 0;
  return std::max(chunk + hidden + weight + product, 2 * hidden + 2 * weight);
}

std::vector<NamedBytes> memory_of_job(const PlannedJob& job, const ShardedStepBytes& sharded) {
  const Llama3Activations activations = llama3_activations(job.llama->config(), job.microbatch());
  const bool has_copies = job.options.compute_dtype != job.options.master_dtype;
  const int64_t numel = sharded.shard_numel;
  const int64_t layers = job.llama->config().n_layers;
  return {
      {"parameters", numel * job.master_bytes, "masters, " + job.config.training.dtype},
      {"gradients", numel * job.master_bytes, "of this rank's part"},
      {"optimizer", 2 * numel * job.master_bytes + element_bytes(at::kFloat),
       "AdamW's two moments"},
      {"compute copies", has_copies ? numel * job.compute_bytes : 0,
       job.config.training.mixed_precision_param},
      {"whole units", sharded.transient_peak, "FSDP: gathered ahead, gradients to be summed"},
      {"activations", activations.kept,
       std::to_string(activations.num_recomputed_layers) + " of " + std::to_string(layers) +
           " layers recomputed"},
      {"layer at work", activations.backward, "its backward, and what it recomputes"},
      {"loss", loss_memory(job), "logits of a chunk, gradients of head and hidden states"},
      {"messages", summed_over_tensor_numel(job) * job.master_bytes,
       "gradients of norms on their way over tensor ranks"},
  };
}

int64_t loss_traffic(const PlannedJob& job) {
  const int64_t tp = job.layout.dims.tp, f = job.statistic_bytes();
  const LossSizes sizes = loss_sizes(job);
  int64_t sent = all_reduce_sent(f, tp);  // the sum
  for (int64_t chunk = 0; chunk < sizes.num_chunks(); ++chunk) {
    const int64_t tokens = std::min(sizes.chunk, sizes.tokens - chunk * sizes.chunk);
    sent += 2 * all_reduce_sent(tokens * f, tp);  // maximum and sum of the softmax
  }
  return sent;
}

AxisTraffic tensor_traffic(const PlannedJob& job) {
  const Llama3TensorTraffic layers = llama3_tensor_traffic(job.llama->config(), job.microbatch());
  const int64_t times = job.layout.num_microbatches;
  const int64_t norms =
      all_reduce_sent(summed_over_tensor_numel(job) * job.master_bytes, job.layout.dims.tp);
  return {.axis = "tensor",
          .num_ranks = job.layout.dims.tp,
          .operations = {{"all-gather", times * layers.gather, "tokens"},
                         {"reduce-scatter", times * layers.scatter, "tokens"},
                         {"all-reduce", times * (layers.all_reduce + loss_traffic(job)) + norms,
                          "softmax, norms, and tokens without sequence parallelism"}}};
}

// Three sums over the ranks with losses of their own, one over those that hold the model.
AxisTraffic scalar_traffic(const PlannedJob& job) {
  const int64_t scalar = element_bytes(at::kDouble);
  const int64_t sent = 3 * all_reduce_sent(scalar, job.mesh.loss().size()) +
                       all_reduce_sent(scalar, job.mesh.model().size());
  return {.axis = "scalars",
          .num_ranks = job.layout.num_ranks,
          .operations = {{"all-reduce", sent, "valid labels, losses, gradient norm"}}};
}

std::vector<AxisTraffic> traffic_of_job(const PlannedJob& job, const ShardedStepBytes& sharded) {
  const std::string gathers = std::to_string(sharded.num_gathers) + " units";
  const std::string reductions = std::to_string(sharded.num_reductions) + " units";
  const std::string buckets = std::to_string(sharded.num_buckets) + " buckets";
  return {{.axis = "shard",
           .num_ranks = job.mesh.shard().size(),
           .operations = {{"all-gather", sharded.gather_sent, gathers},
                          {"reduce-scatter", sharded.reduce_sent, reductions}}},
          {.axis = "replicate",
           .num_ranks = job.mesh.replicate().size(),
           .operations = {{"all-reduce", sharded.replicate_sent, buckets}}},
          tensor_traffic(job),
          scalar_traffic(job)};
}

}  // namespace

int64_t AxisTraffic::num_bytes() const {
  int64_t sum = 0;
  for (const NamedBytes& operation : operations) sum += operation.num_bytes;
  return sum;
}

int64_t Estimate::memory_of(const std::string& name) const {
  for (const NamedBytes& item : memory) {
    if (item.name == name) return item.num_bytes;
  }
  TORCH_CHECK(false, "an estimate has no memory of \"", name, "\"");
}

// As if all were at their fullest at once: the loss is done when the layers' backward starts.
int64_t Estimate::total_memory() const {
  int64_t sum = 0;
  for (const NamedBytes& item : memory) sum += item.num_bytes;
  return sum - std::min(memory_of("loss"), memory_of("layer at work"));
}

Estimate estimate_job(const JobConfig& config, int64_t num_ranks) {
  check_axes(plan_layout(config, num_ranks));
  const PlannedJob job(config, num_ranks);
  const ShardedStepBytes sharded = sharded_bytes(job);
  return {.model = job.model->description(),
          .layout = job.layout,
          .num_parameters = job.llama->config().num_parameters(),
          .rows = config.training.local_batch_size,
          .seq_len = config.training.seq_len,
          .memory = memory_of_job(job, sharded),
          .traffic = traffic_of_job(job, sharded)};
}

}  // namespace tessera
