#include "trainer/job/job_layout.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "configs/load_config.h"
#include "models/registry.h"
#include "parallel/pipeline/schedules/schedule_csv.h"

namespace tessera {
namespace {

template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw ConfigError(c10::str(parts...));
}

ParallelDims dims_of(const Parallelism& p, int64_t num_ranks) {
  try {
    return resolve({.dp_replicate = p.data_parallel_replicate_degree,
                    .dp_shard = p.data_parallel_shard_degree,
                    .cp = p.context_parallel_degree,
                    .tp = p.tensor_parallel_degree,
                    .pp = p.pipeline_parallel_degree,
                    .ep = p.expert_parallel_degree,
                    .etp = p.expert_tensor_parallel_degree},
                   num_ranks);
  } catch (const c10::Error& error) {
    throw ConfigError("[parallelism]: " + std::string(error.what_without_backtrace()));
  }
}

// Throws unless ranks can share a row evenly. TorchTitan asks for a multiple of 2 * cp * tp: the
// factor 2 serves its way of balancing context parallelism, which ours does not need.
void check_row(const Training& training, const ParallelDims& dims) {
  require(training.seq_len % (dims.tp * dims.cp) == 0,
          "training.seq_len: expected a multiple of tensor x context parallel degree = ", dims.tp,
          " x ", dims.cp, ", got ", training.seq_len);
}

void check_tensor_keys(const Parallelism& p, const ParallelDims& dims) {
  require(dims.tp == 1 || !p.disable_loss_parallel,
          "parallelism.disable_loss_parallel: true is not supported with tensor_parallel_degree = ",
          dims.tp, "; the loss is always computed from each rank's part of the vocabulary");
}

pipeline::PipelinePlan plan_stages(const JobConfig& config) {
  const Parallelism& p = config.parallelism;
  const int64_t rows = config.training.local_batch_size;
  require(rows % p.pipeline_parallel_microbatch_size == 0,
          "parallelism.pipeline_parallel_microbatch_size: expected a divisor of "
          "training.local_batch_size = ",
          rows, ", got ", p.pipeline_parallel_microbatch_size);
  try {
    pipeline::PipelineOptions options{
        .num_ranks = p.pipeline_parallel_degree,
        .num_layers = model_num_layers(config.model.name, config.model.flavor),
        .num_microbatches = rows / p.pipeline_parallel_microbatch_size,
        .schedule = p.pipeline_parallel_schedule,
        .layers_per_stage = p.pipeline_parallel_layers_per_stage,
        .modules = p.module_fqns_per_model_part,
        .first_stage_less_layers = p.pipeline_parallel_first_stage_less_layers,
        .last_stage_less_layers = p.pipeline_parallel_last_stage_less_layers};
    if (!p.pipeline_parallel_schedule_csv.empty()) {
      options.own = pipeline::load_schedule_csv(p.pipeline_parallel_schedule_csv);
    }
    return pipeline::plan_pipeline(options);
  } catch (const c10::Error& error) {
    throw ConfigError("[parallelism]: " + std::string(error.what_without_backtrace()));
  }
}

}  // namespace

JobLayout plan_layout(const JobConfig& config, int64_t num_ranks) {
  const Training& training = config.training;
  JobLayout layout{.dims = dims_of(config.parallelism, num_ranks), .num_ranks = num_ranks};
  check_row(training, layout.dims);
  check_tensor_keys(config.parallelism, layout.dims);

  if (layout.dims.pp > 1) layout.pipeline = plan_stages(config);

  layout.num_data_ranks = layout.dims.dp_replicate * layout.dims.dp_shard;
  layout.global_batch_size = global_batch_size(training, layout.num_data_ranks);
  const int64_t rows_at_once = training.local_batch_size * layout.num_data_ranks;
  require(layout.global_batch_size % rows_at_once == 0,
          "training.global_batch_size: expected a multiple of local_batch_size x data-parallel "
          "degree = ",
          training.local_batch_size, " x ", layout.num_data_ranks, ", got ",
          layout.global_batch_size);
  layout.num_microbatches = gradient_accumulation_steps(training, layout.num_data_ranks);
  return layout;
}

}  // namespace tessera
