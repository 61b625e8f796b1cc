#include <algorithm>

#include "trainer/estimate/estimate_parts.h"

namespace tessera {
namespace {

constexpr int64_t kScalar = 8;  // a float64

int64_t loss_traffic(const PlannedJob& job) {
  if (!job.has_loss()) return 0;
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
  Llama3TensorTraffic layers;
  for (const PlannedStage& stage : job.stages) {
    const Llama3TensorTraffic own =
        llama3_tensor_traffic(job.llama(), stage.holds, job.microbatch());
    layers.gather += own.gather;
    layers.scatter += own.scatter;
    layers.all_reduce += own.all_reduce;
  }
  const int64_t times = job.num_microbatches();
  const int64_t norms =
      all_reduce_sent(summed_over_tensor_numel(job) * job.master_bytes(), job.layout.dims.tp);
  return {.axis = "tensor",
          .num_ranks = job.layout.dims.tp,
          .operations = {{"all-gather", times * layers.gather, "tokens"},
                         {"reduce-scatter", times * layers.scatter, "tokens"},
                         {"all-reduce", times * (layers.all_reduce + loss_traffic(job)) + norms,
                          "softmax, norms, and tokens without sequence parallelism"}}};
}

int64_t count_actions(const PlannedJob& job, pipeline::ActionKind kind) {
  const auto& actions =
      job.layout.pipeline->execution.ranks[static_cast<size_t>(job.mesh.pp().rank())];
  return std::count_if(actions.begin(), actions.end(),
                       [kind](const pipeline::Action& action) { return action.kind == kind; });
}

// Elements of this rank's part of parameter i of unit u.
int64_t own_numel(const PlannedJob& job, size_t u, size_t i) {
  const ParameterShard& place = job.layouts[u].parameters[i];
  return place.rows_of(job.mesh.shard().rank()).size() * place.row_numel;
}

int64_t part_numel(const PlannedJob& job, const std::string& name) {
  for (size_t u = 0; u < job.blocks.size(); ++u) {
    for (size_t i = 0; i < job.blocks[u]->slots.size(); ++i) {
      if (job.blocks[u]->slots[i].name == name) return own_numel(job, u, i);
    }
  }
  return 0;
}

// Bytes sent to sum the gradients of parameters that other ranks of the pipeline hold as well.
int64_t tied_gradients_sent(const PlannedJob& job) {
  int64_t sent = 0;
  for (const auto& [name, ranks] : tied_parameters(*job.layout.pipeline, job.make)) {
    if (!ranks.contains(job.mesh.pp().rank())) continue;
    sent += all_reduce_sent(part_numel(job, name) * job.master_bytes(),
                            static_cast<int64_t>(ranks.size()));
  }
  return sent;
}

AxisTraffic pipeline_traffic(const PlannedJob& job) {
  AxisTraffic traffic{.axis = "pipeline", .num_ranks = job.layout.dims.pp};
  if (!job.layout.pipeline) return traffic;
  const int64_t passes = job.layout.num_microbatches;
  const int64_t forward = passes * count_actions(job, pipeline::ActionKind::kSendForward);
  const int64_t backward = passes * count_actions(job, pipeline::ActionKind::kSendBackward);
  const bool tells_loss =
      job.layout.pipeline->schedule.placement.rank_of_stage.back() == job.mesh.pp().rank();
  traffic.operations = {
      {"activations", forward * job.hidden_bytes(), std::to_string(forward) + " messages"},
      {"gradients", backward * job.hidden_bytes(), std::to_string(backward) + " messages"},
      {"all-reduce", tied_gradients_sent(job), "gradient of the tied embedding"},
      {"broadcast", tells_loss ? (job.layout.dims.pp - 1) * kScalar : 0, "the loss"}};
  return traffic;
}

AxisTraffic context_traffic(const PlannedJob& job, const ContextUse& context) {
  const int64_t cp = job.layout.dims.cp;
  return {.axis = "context",
          .num_ranks = cp,
          .operations = {
              {"keys and values", context.sent[static_cast<size_t>(job.mesh.cp().rank())],
               "and their gradients: " + job.config.parallelism.context_parallel_rotate_method},
              {"all-reduce", all_reduce_sent(kScalar, cp), "losses of rows"}}};
}

// A step sums three scalars over the ranks with losses of their own, and one over the ranks that
// together hold the model.
AxisTraffic scalar_traffic(const PlannedJob& job) {
  const int64_t sent = 3 * all_reduce_sent(kScalar, job.mesh.loss().size()) +
                       all_reduce_sent(kScalar, job.mesh.model().size());
  return {.axis = "scalars",
          .num_ranks = job.layout.num_ranks,
          .operations = {{"all-reduce", sent, "valid labels, losses, gradient norm"}}};
}

}  // namespace

ShardedStepBytes sharded_bytes(const PlannedJob& job) {
  const int64_t num_in_flight = job.options().device.is_cpu() ? 0 : 1;
  return sharded_step_bytes(job.layouts, job.unit_events(),
                            {.num_shard_ranks = job.mesh.shard().size(),
                             .num_replicate_ranks = job.mesh.replicate().size(),
                             .master_bytes = job.master_bytes(),
                             .compute_bytes = job.compute_bytes(),
                             .reshard_after_forward = job.options().reshard_after_forward,
                             .reshard_last_block = job.options().reshard_last_block,
                             .reduce_at_end = job.options().reduce_at_end,
                             .num_reductions_in_flight = num_in_flight,
                             .bucket_bytes = job.options().bucket_bytes});
}

int64_t summed_over_tensor_numel(const PlannedJob& job) {
  if (job.mesh.tp().size() == 1 || !job.options().sum_whole_gradients_over_tensor) return 0;
  int64_t numel = 0;
  for (size_t u = 0; u < job.blocks.size(); ++u) {
    for (size_t i = 0; i < job.blocks[u]->slots.size(); ++i) {
      if (!job.blocks[u]->slots[i].cut) numel += own_numel(job, u, i);
    }
  }
  return numel;
}

std::vector<AxisTraffic> traffic_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                        const ContextUse& context) {
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
          pipeline_traffic(job),
          context_traffic(job, context),
          scalar_traffic(job)};
}

}  // namespace tessera
