// What a job will need of each rank, told before it starts: memory by purpose and bytes sent by
// axis, for any number of ranks, without a second one.
//
// Parameters, gradients, optimizer state, FSDP's buffers, messages of a pipeline and keys of
// context parallelism come from the functions that the runtime lays its buffers out and plans its
// messages with, on the model as the rank builds it (on the meta device, without storage).
// Activations come from formulas (models/llama3/costs.h).
//
// An estimate is of one rank. Ranks of a pipeline differ: each is estimated, and the fullest is
// shown. Where ranks share the sequence, the rank that sends most keys is shown. Tensor and data
// ranks are alike but for remainders, of which their first rank has the largest.
//
//   const Estimate estimate = estimate_job(config, 512);
//   std::cout << estimate_text(estimate);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/job_config.h"
#include "trainer/estimate/document_rows.h"
#include "trainer/estimate/estimate_context.h"
#include "trainer/job/job_layout.h"

namespace tessera {

struct NamedBytes {
  std::string name;  // of a purpose or an operation, e.g. "activations", "all-gather"
  int64_t num_bytes = 0;
  std::string note = {};  // for people
};

// What a rank sends to other ranks of an axis in one optimizer step, as ProcessGroup::counters()
// counts.
struct AxisTraffic {
  std::string axis;  // "shard", "replicate", "tensor", "pipeline", "context", "scalars"
  int64_t num_ranks = 1;
  std::vector<NamedBytes> operations = {};
  int64_t num_bytes() const;
};

// The pipeline, and the place in it of the rank that is shown.
struct PipelineEstimate {
  std::string schedule;
  int64_t num_microbatches = 0;  // of one pass
  int64_t rank = 0;              // in the pipeline
  std::vector<int64_t> stages;   // of this rank
  int64_t peak_live = 0;         // microbatches whose activations this rank holds at once
  double idle_share = 0;         // of a pass, mean of the ranks, if stages are alike and B = 2 F

  // Total memory in bytes, by rank of the pipeline; empty in what estimate_rank returns.
  std::vector<int64_t> memory = {};
};

struct Estimate {
  std::string model;
  JobLayout layout;
  int64_t rank = 0;            // whose memory and traffic these are
  int64_t num_parameters = 0;  // of the whole model
  int64_t rows = 0;            // of a microbatch
  int64_t seq_len = 0;
  std::vector<NamedBytes> memory;  // each purpose at its fullest
  std::vector<AxisTraffic> traffic;
  std::optional<PipelineEstimate> pipeline = {};  // with several stages
  std::optional<ContextEstimate> context = {};    // with a divided sequence; of estimate_job only

  // The bytes of one purpose. Throws c10::Error for a name that `memory` does not have.
  int64_t memory_of(const std::string& name) const;

  // The bytes of all purposes, as if all were at their fullest at once, but for the smaller of
  // "loss" and "layer at work": the loss is done when the layers' backward starts.
  int64_t total_memory() const;
};

// The estimate of the rank that the top of this file names. documents: the documents of a step's
// rows, which are taken in order and from the front again; without any, each row is one document.
// They matter to context parallelism alone. Throws ConfigError for degrees that do not fit the
// ranks (plan_layout in trainer/job/job_layout.h) and for a sequence that they cannot share as
// configured; c10::Error for models without formulas.
Estimate estimate_job(const JobConfig& config, int64_t num_ranks,
                      const DocumentRows& documents = {});

// The estimate of one given rank, without PipelineEstimate::memory and Estimate::context. Throws
// what estimate_job throws.
Estimate estimate_rank(const JobConfig& config, int64_t num_ranks, int64_t rank,
                       const DocumentRows& documents = {});

// A table for people.
std::string estimate_text(const Estimate& estimate);

// One object on one line: model, num_parameters, num_ranks, layout (degree by axis), rank,
// num_microbatches, memory (bytes by name, and total), traffic (by axis: bytes by operation, and
// total), and where they apply pipeline and context.
std::string estimate_json(const Estimate& estimate);

}  // namespace tessera
