#include "trainer/estimate/estimate.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "configs/load_config.h"
#include "parallel/pipeline/schedules/simulate_schedule.h"
#include "parallel/pipeline/schedules/validate_schedule.h"
#include "trainer/estimate/estimate_parts.h"

namespace tessera {
namespace {

PipelineEstimate pipeline_of(const PlannedJob& job) {
  const pipeline::Schedule& schedule = job.layout.pipeline->schedule;
  const int64_t rank = job.mesh.pp().rank();
  return {.schedule = schedule.name,
          .num_microbatches = schedule.num_microbatches,
          .rank = rank,
          .stages = job.rank.stages().stages,
          .peak_live = pipeline::peak_live_microbatches(schedule)[static_cast<size_t>(rank)],
          .idle_share = pipeline::simulate_schedule(schedule).idle_share};
}

ContextUse use_as_configured(const PlannedJob& job, const DocumentRows& documents) {
  try {
    return context_use(job, documents);
  } catch (const c10::Error& error) {
    throw ConfigError("parallelism.context_parallel_degree = " +
                      std::to_string(job.layout.dims.cp) + ": " + error.what_without_backtrace());
  }
}

// The rank with these coordinates and 0 on the other axes.
int64_t rank_at(const ParallelDims& dims, int64_t pipeline_rank, int64_t context_rank) {
  return dims.group_ranks(dims.group_ranks(0, {Axis::kPp})[static_cast<size_t>(pipeline_rank)],
                          {Axis::kCp})[static_cast<size_t>(context_rank)];
}

}  // namespace

RankEstimate estimate_planned(const PlannedJob& job, const DocumentRows& documents) {
  RankEstimate result{.context = use_as_configured(job, documents)};
  const ShardedStepBytes sharded = sharded_bytes(job);
  result.estimate = {.model = job.rank.front().description(),
                     .layout = job.layout,
                     .rank = job.mesh.world().rank(),
                     .num_parameters = job.llama().num_parameters(),
                     .rows = job.rows(),
                     .seq_len = job.config.training.seq_len,
                     .memory = memory_of_job(job, sharded, result.context),
                     .traffic = traffic_of_job(job, sharded, result.context)};
  if (job.layout.pipeline) result.estimate.pipeline = pipeline_of(job);
  return result;
}

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

int64_t Estimate::total_memory() const {
  int64_t sum = 0;
  for (const NamedBytes& item : memory) sum += item.num_bytes;
  return sum - std::min(memory_of("loss"), memory_of("layer at work"));
}

Estimate estimate_rank(const JobConfig& config, int64_t num_ranks, int64_t rank,
                       const DocumentRows& documents) {
  return estimate_planned(PlannedJob(config, num_ranks, rank), documents).estimate;
}

Estimate estimate_job(const JobConfig& config, int64_t num_ranks, const DocumentRows& documents) {
  const ParallelDims dims = plan_layout(config, num_ranks).dims;
  RankEstimate fullest;
  std::vector<int64_t> memory;
  for (int64_t p = 0; p < dims.pp; ++p) {
    RankEstimate next =
        estimate_planned(PlannedJob(config, num_ranks, rank_at(dims, p, 0)), documents);
    memory.push_back(next.estimate.total_memory());
    const bool is_fuller = p == 0 || memory.back() > fullest.estimate.total_memory();
    if (is_fuller) fullest = std::move(next);
  }
  Estimate estimate = std::move(fullest.estimate);
  if (dims.cp > 1) {
    const std::vector<int64_t>& sent = fullest.context.sent;
    const auto busiest = std::max_element(sent.begin(), sent.end()) - sent.begin();
    const int64_t p = estimate.pipeline ? estimate.pipeline->rank : 0;
    const PlannedJob job(config, num_ranks, rank_at(dims, p, busiest));
    if (busiest > 0) estimate = estimate_planned(job, documents).estimate;
    estimate.context = context_estimate(job, documents);
  }
  if (estimate.pipeline) {
    memory[static_cast<size_t>(estimate.pipeline->rank)] = estimate.total_memory();
    estimate.pipeline->memory = std::move(memory);
  }
  return estimate;
}

}  // namespace tessera
