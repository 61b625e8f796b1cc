// The parts of an estimate, by subject: what each source file of the room gives the others.
// Internal to trainer/estimate/.
//
//   const PlannedJob job(config, num_ranks, rank);
//   const ContextUse context = context_use(job, documents);
//   const ShardedStepBytes sharded = sharded_bytes(job);
//   const std::vector<NamedBytes> memory = memory_of_job(job, sharded, context);
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/estimate/estimate.h"
#include "trainer/estimate/planned_job.h"

namespace tessera {

// What attention exchanges and keeps under context parallelism, as configured. The defaults are
// those of a sequence that is not shared.
struct ContextUse {
  std::vector<int64_t> sent = {0};  // bytes in a step, by rank of the axis
  int64_t key_tokens = -1;          // Llama3Step::key_tokens of the microbatch with the most
  int64_t num_outputs = 1;          // Llama3Step::num_outputs of the microbatch with the most
};

// context_use and context_estimate throw c10::Error when a row of `documents` has not seq_len
// tokens; context_use also when the ranks cannot share the rows as configured, which
// context_estimate tells in `refusal` where it can.
ContextUse context_use(const PlannedJob& job, const DocumentRows& documents);
ContextEstimate context_estimate(const PlannedJob& job, const DocumentRows& documents);

// What the parameters of this rank hold and send in a step (parallel/fsdp/step_bytes.h).
ShardedStepBytes sharded_bytes(const PlannedJob& job);

// Elements of this rank's parts of parameters that tensor parallelism has not cut, whose gradients
// are summed over its ranks under sequence parallelism (sum_whole_gradients_over_tensor).
int64_t summed_over_tensor_numel(const PlannedJob& job);

// Sizes of the cross entropy of a microbatch, on a rank with the head (trainer/step/loss.h).
struct LossSizes {
  int64_t tokens = 0;
  int64_t chunk = 0;    // tokens whose logits are there at once
  int64_t columns = 0;  // of the vocabulary, on this rank
  int64_t num_chunks() const { return (tokens + chunk - 1) / chunk; }
};
LossSizes loss_sizes(const PlannedJob& job);

// The estimate that estimate_rank returns, and the context that estimate_job compares by.
struct RankEstimate {
  Estimate estimate = {};
  ContextUse context = {};
};
RankEstimate estimate_planned(const PlannedJob& job, const DocumentRows& documents);

// The lists Estimate::memory and Estimate::traffic.
std::vector<NamedBytes> memory_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                      const ContextUse& context);
std::vector<AxisTraffic> traffic_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                        const ContextUse& context);

}  // namespace tessera
