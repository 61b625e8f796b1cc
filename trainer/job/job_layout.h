// Who does what in a run of N ranks: degrees, rows per rank, and everything that can be refused
// before ranks meet. Plain values, alike on all ranks.
//
//   const JobLayout layout = plan_layout(config, environment.world_size);   // throws ConfigError
//
// Under any layout, row r of step s (both from 0) is this row of the data set's order:
//
//   s * global_batch_size + r
//
// Microbatch m of data rank d has the rows of a step from this one on:
//
//   r = (m * num_data_ranks + d) * local_batch_size
#pragma once

#include <cstdint>
#include <optional>

#include "configs/job_config.h"
#include "parallel/comm/parallel_dims.h"
#include "parallel/pipeline/pipeline_plan.h"

namespace tessera {

struct JobLayout {
  ParallelDims dims;  // degree by axis, all of them resolved (no -1)
  int64_t num_ranks = 1;
  int64_t num_data_ranks = 1;     // ranks that read rows of their own
  int64_t num_microbatches = 1;   // that a rank accumulates per step
  int64_t global_batch_size = 1;  // rows of a step, all ranks together

  // Set with pipeline_parallel_degree > 1. Each of num_microbatches is then cut by rows into the
  // microbatches of the pipeline.
  std::optional<pipeline::PipelinePlan> pipeline = {};
};

// Throws ConfigError naming key, value and what is expected: degrees that do not fit the ranks, a
// batch or a row that does not divide over them, a pipeline that cannot run, and keys that mean
// nothing under this layout.
JobLayout plan_layout(const JobConfig& config, int64_t num_ranks);

}  // namespace tessera
