// The bytes that ShardedParameters holds and sends in an optimizer step, told beforehand: a replay
// of its rules on the layouts it would have, without a tensor.
//
//   const std::vector<ShardLayout> layouts = shard_layouts(model.blocks(), num_shard_ranks);
//   const ShardedStepBytes step = sharded_step_bytes(layouts, {0, 1, 2}, {.num_shard_ranks = 8});
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/fsdp/shard_layout.h"

namespace tessera {

// An optimizer step; fields have the meaning of those of ShardedParametersOptions.
struct ShardedStep {
  int64_t num_shard_ranks = 1;
  int64_t num_replicate_ranks = 1;
  int64_t num_microbatches = 1;
  int64_t master_bytes = 4;   // of an element of masters and gradients
  int64_t compute_bytes = 4;  // of an element of gathered parameters
  bool reshard_after_forward = true;
  bool reshard_last_block = false;
  bool reduce_at_end = false;            // gradients stay whole until a kReduce, or the step's end
  int64_t num_reductions_in_flight = 0;  // beside the computation: 0 on a CPU, 1 on a GPU
  int64_t bucket_bytes = int64_t{25} << 20;
};

// The counts of one rank. Sent bytes are those of ProcessGroup::counters(): what goes to other
// ranks.
struct ShardedStepBytes {
  int64_t shard_numel = 0;     // elements of each flat buffer of parts, padding included
  int64_t transient_peak = 0;  // whole parameters and gradients, beyond the flat buffers
  int64_t num_gathers = 0;
  int64_t gather_sent = 0;
  int64_t num_reductions = 0;
  int64_t reduce_sent = 0;
  int64_t num_buckets = 0;
  int64_t replicate_sent = 0;
};

// An event of a unit: a forward or backward of its segment, or (with reduce_at_end) the sum of its
// gradients, which does nothing where there are none.
struct UnitEvent {
  enum class Kind { kForward, kBackward, kReduce };
  Kind kind = Kind::kForward;
  int64_t unit = 0;
};

// The counts of a step whose microbatches go forward and backward one after the other; `uses` has
// the units in the order in which a forward uses them. All counts are those of a step that is not
// the first: the first one does not know yet what to gather ahead. Throws c10::Error for units laid
// out for another number of ranks.
ShardedStepBytes sharded_step_bytes(const std::vector<ShardLayout>& layouts,
                                    const std::vector<int64_t>& uses, const ShardedStep& step);

// The counts of a step with any order of events, such as a pipeline's; `events` has those of all
// microbatches.
ShardedStepBytes sharded_step_bytes(const std::vector<ShardLayout>& layouts,
                                    const std::vector<UnitEvent>& events, const ShardedStep& step);

}  // namespace tessera
