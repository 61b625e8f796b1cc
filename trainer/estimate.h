// What a job will need of each rank, told before it starts: memory by purpose and bytes sent by
// axis, for any number of ranks, without a second one.
//
// Parameters, gradients, optimizer state, FSDP's buffers and their traffic come from the functions
// that the runtime lays its buffers out with, on the model as rank 0 builds it (on the meta device,
// without storage); activations from formulas (models/llama3/costs.h). Rank 0 has the largest part
// of everything.
//
//   const Estimate estimate = estimate_job(config, 512);
//   std::cout << estimate_text(estimate);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/job_config.h"
#include "trainer/job_layout.h"

namespace tessera {

struct NamedBytes {
  std::string name;
  int64_t num_bytes = 0;
  std::string note = {};
};

// Sent by a rank in one optimizer step, as ProcessGroup::counters() counts.
struct AxisTraffic {
  std::string axis;  // "shard", "replicate", "tensor", "scalars"
  int64_t num_ranks = 1;
  std::vector<NamedBytes> operations;  // all-gather, reduce-scatter, all-reduce
  int64_t num_bytes() const;
};

struct Estimate {
  std::string model;
  JobLayout layout;
  int64_t num_parameters = 0;  // of the whole model
  int64_t rows = 0;            // of a microbatch
  int64_t seq_len = 0;
  std::vector<NamedBytes> memory;  // of rank 0 at its fullest
  std::vector<AxisTraffic> traffic;

  // Throws c10::Error for a name that `memory` does not have.
  int64_t memory_of(const std::string& name) const;
  int64_t total_memory() const;
};

// Throws ConfigError for degrees that do not fit the ranks (job_layout.h) and for pipeline and
// context parallelism, which this does not know yet; c10::Error for models without formulas.
Estimate estimate_job(const JobConfig& config, int64_t num_ranks);

// A table for people.
std::string estimate_text(const Estimate& estimate);

// One object on one line: model, num_parameters, num_ranks, layout (degree by axis),
// num_microbatches, memory (bytes by name, and total), traffic (by axis: bytes by operation, and
// total).
std::string estimate_json(const Estimate& estimate);

}  // namespace tessera
