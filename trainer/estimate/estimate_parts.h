// The parts of an estimate, by subject. Internal to estimate*.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/estimate/estimate.h"
#include "trainer/estimate/planned_job.h"

namespace tessera {

// What attention exchanges and keeps under context parallelism, as configured. Without it: nothing.
struct ContextUse {
  std::vector<int64_t> sent = {0};  // in a step, by rank of the axis
  int64_t key_tokens = -1;          // as Llama3Step has them, at most in a microbatch
  int64_t num_outputs = 1;
};

ContextUse context_use(const PlannedJob& job, const DocumentRows& documents);
ContextEstimate context_estimate(const PlannedJob& job, const DocumentRows& documents);

ShardedStepBytes sharded_bytes(const PlannedJob& job);

// Elements of this rank's parts of parameters that tensor parallelism has not cut, whose gradients
// are summed over its ranks under sequence parallelism (sum_whole_gradients_over_tensor).
int64_t summed_over_tensor_numel(const PlannedJob& job);

// Of the cross entropy of a microbatch, on a rank with the head.
struct LossSizes {
  int64_t tokens = 0;
  int64_t chunk = 0;    // tokens whose logits are there at once
  int64_t columns = 0;  // of the vocabulary, on this rank
  int64_t num_chunks() const { return (tokens + chunk - 1) / chunk; }
};
LossSizes loss_sizes(const PlannedJob& job);

// estimate_rank's, and what of it estimate_job compares.
struct RankEstimate {
  Estimate estimate = {};
  ContextUse context = {};
};
RankEstimate estimate_planned(const PlannedJob& job, const DocumentRows& documents);

std::vector<NamedBytes> memory_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                      const ContextUse& context);
std::vector<AxisTraffic> traffic_of_job(const PlannedJob& job, const ShardedStepBytes& sharded,
                                        const ContextUse& context);

}  // namespace tessera
