// Who does what in a run of N ranks: degrees, rows per rank, and everything that can be refused
// before ranks meet. Plain values.
//
//   const JobLayout layout = plan_layout(config, environment.world_size);   // throws ConfigError
//
// Row r of step s is row s * global_batch + r of the data set's order under any layout: microbatch
// m of data rank d has the rows from (m * num_data_ranks + d) * local_batch_size on.
#pragma once

#include <cstdint>
#include <optional>

#include "configs/job_config.h"
#include "parallel/comm/parallel_dims.h"
#include "parallel/pipeline/pipeline_plan.h"

namespace tessera {

struct JobLayout {
  ParallelDims dims;  // resolved
  int64_t num_ranks = 1;
  int64_t num_data_ranks = 1;    // ranks that read rows of their own
  int64_t num_microbatches = 1;  // that a rank accumulates per step
  int64_t global_batch_size = 1;

  // With more than one stage; a microbatch above is then cut into those of the pipeline.
  std::optional<pipeline::PipelinePlan> pipeline = {};
};

// Throws ConfigError naming key, value and what is expected: degrees that do not fit the ranks, a
// batch or a row that does not divide over them, a pipeline that cannot run, and keys that mean
// nothing under this layout.
JobLayout plan_layout(const JobConfig& config, int64_t num_ranks);

}  // namespace tessera
