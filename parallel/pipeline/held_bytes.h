// The most bytes and messages that a rank of a pipeline holds at once, by a walk along its list of
// actions.
//
//   const std::vector<StageBytes> stages(4, {.activations = 100, .deferred = 60});
//   peak_held_bytes(schedule, /*rank=*/0, stages);
//   peak_messages(plan, /*rank=*/0);                  // times the bytes of a hidden state
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/pipeline/communication.h"
#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

// The bytes of one microbatch in one stage.
struct StageBytes {
  int64_t activations = 0;  // from F to B or I
  int64_t deferred = 0;     // from I to W: inputs and output gradients of linear layers
};

// The most bytes that the rank holds at once, over its stages. `stages` has those of the whole
// pipeline, by number. Throws c10::Error unless there is one for each stage.
int64_t peak_held_bytes(const Schedule& schedule, int64_t rank,
                        const std::vector<StageBytes>& stages);

// The largest number of hidden states and of their gradients that the rank holds at once beside the
// bytes of peak_held_bytes: received and not yet used (gradients until the backward that takes them
// is done), handed over between two stages of its own, or on their way to another rank. An output
// that is sent is not counted: its stage holds it anyway.
int64_t peak_messages(const ExecutionPlan& plan, int64_t rank);

}  // namespace tessera::pipeline
