#include <algorithm>

#include "parallel/pipeline/held_bytes.h"
#include "trainer/estimate/estimate_parts.h"
#include "trainer/step/loss.h"

namespace tessera {
namespace {

// What cross_entropy_sum (trainer/step/loss.h) takes. It makes the gradients of hidden states and
// head in forward and holds them until backward. Beside them it needs, in forward, logits, log
// softmax and their gradient of one chunk; in backward, scaled copies of the held gradients.
struct LossMemory {
  int64_t held = 0;  // of a microbatch
  int64_t work = 0;  // beside it, at most
};

LossMemory loss_memory(const PlannedJob& job) {
  if (!job.has_loss()) return {};
  const LossSizes sizes = loss_sizes(job);
  const int64_t e = job.compute_bytes(), f = job.statistic_bytes();
  const int64_t dim = job.llama().dim;
  const bool is_cast = e != f;
  const int64_t chunk = sizes.chunk * sizes.columns * (is_cast ? 2 * e + 2 * f : 2 * f);
  const int64_t product = is_cast ? sizes.columns * dim * e : 0;
  const int64_t held = sizes.tokens * dim * e + sizes.columns * dim * f;
  return {.held = held, .work = std::max(chunk + product, held)};
}

struct LayersMemory {
  int64_t kept = 0;      // of all microbatches in flight
  int64_t backward = 0;  // of the layer at work
  int64_t num_layers = 0, num_recomputed = 0;
};

LayersMemory layers_memory(const PlannedJob& job, const ContextUse& context, int64_t loss_held) {
  Llama3Step step = job.microbatch();
  step.key_tokens = context.key_tokens;
  step.num_outputs = context.num_outputs;
  LayersMemory result;
  const bool is_pipeline = job.layout.pipeline.has_value();
  std::vector<pipeline::StageBytes> bytes(is_pipeline ? job.layout.pipeline->stages.size() : 1);
  for (const PlannedStage& stage : job.stages) {
    const Llama3Activations own = llama3_activations(job.llama(), stage.holds, step);
    result.backward = std::max(result.backward, own.backward);
    result.num_layers += stage.holds.num_layers;
    result.num_recomputed += stage.holds.num_recomputed;
    bytes[static_cast<size_t>(stage.stage)] = {
        .activations = own.kept + (is_pipeline && stage.holds.head ? loss_held : 0),
        .deferred = own.deferred};
  }
  result.kept = is_pipeline ? pipeline::peak_held_bytes(job.layout.pipeline->schedule,
                                                        job.mesh.pp().rank(), bytes)
                            : bytes.front().activations;
  return result;
}

std::string activations_note(const PlannedJob& job, const LayersMemory& layers) {
  std::string note = std::to_string(layers.num_recomputed) + " of " +
                     std::to_string(layers.num_layers) + " layers recomputed";
  if (!job.layout.pipeline) return note;
  return note + "; of all microbatches in flight" +
         (job.has_loss() ? ", with their gradients of the head" : "");
}

int64_t in_transit(const PlannedJob& job) {
  if (!job.layout.pipeline) return 0;
  return job.hidden_bytes() *
         pipeline::peak_messages(job.layout.pipeline->execution, job.mesh.pp().rank());
}

}  // namespace

LossSizes loss_sizes(const PlannedJob& job) {
  LossSizes sizes{.tokens = job.rows() * job.row_tokens(),
                  .columns = job.last_stage().model->head_weight().size(0)};
  sizes.chunk = std::min(loss_chunk_tokens(sizes.columns), sizes.tokens);
  return sizes;
}

std::vector<NamedBytes> memory_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                      const ContextUse& context) {
  const LossMemory loss = loss_memory(job);
  const LayersMemory layers = layers_memory(job, context, loss.held);
  const bool has_copies = job.options().compute_dtype != job.options().master_dtype;
  const bool is_pipeline = job.layout.pipeline.has_value();
  const int64_t numel = sharded.shard_numel;
  constexpr int64_t kStepCount = 4;  // AdamW's, a float32
  std::vector<NamedBytes> memory = {
      {"parameters", numel * job.master_bytes(), "masters, " + job.config.training.dtype},
      {"gradients", numel * job.master_bytes(), "of this rank's part"},
      {"optimizer", 2 * numel * job.master_bytes() + kStepCount, "AdamW's two moments"},
      {"compute copies", has_copies ? numel * job.compute_bytes() : 0,
       job.config.training.mixed_precision_param},
      {"whole units", sharded.transient_peak,
       is_pipeline ? "FSDP: gathered, and gradients of all microbatches"
                   : "FSDP: gathered ahead, gradients to be summed"},
      {"activations", layers.kept, activations_note(job, layers)},
      {"layer at work", layers.backward, "its backward, and what it recomputes"},
      {"loss", is_pipeline ? loss.work : loss.held + loss.work,
       job.has_loss() ? "logits of a chunk, gradients of head and hidden states"
                      : "on the last stage"},
      {"messages", summed_over_tensor_numel(job) * job.master_bytes(),
       "gradients of norms on their way over tensor ranks"},
  };
  if (is_pipeline) {
    memory.push_back({"in transit", in_transit(job), "hidden states between stages"});
  }
  return memory;
}

}  // namespace tessera
