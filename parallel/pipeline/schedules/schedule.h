// Schedule: what each rank of a pipeline computes, in which order. Plain data.
//
// A schedule says nothing of communication or time; both follow from it (communication.h,
// simulate_schedule.h). make_schedule.h builds the named schedules, schedule_csv.h reads one from a
// file, and validate_schedule.h tells whether a schedule can run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/pipeline/schedules/stage_placement.h"

namespace tessera::pipeline {

enum class ActionKind {
  kForward,
  kBackward,         // gradients of the input and of the weights
  kBackwardInput,    // gradient of the input; the stage before can go on
  kBackwardWeight,   // gradients of the weights, any time after kBackwardInput
  kReduceGradients,  // a stage's gradients are complete. From here on only in execution plans
  kSendForward,      // to the next stage: the output of this one
  kReceiveForward,   // from the stage before: the input of this one
  kSendBackward,     // to the stage before: the gradient of this stage's input
  kReceiveBackward,  // from the next stage: the gradient of this stage's output
};

// An action of a rank. Texts are PyTorch's: 2F0 is the forward of stage 2 on microbatch 0, 2SEND_F0
// sends its output.
struct Action {
  ActionKind kind = ActionKind::kForward;
  int64_t stage = 0;
  int64_t microbatch = 0;  // 0 for kReduceGradients
  // Whether this action (a forward) and the next one (a backward of another stage or microbatch)
  // may run interleaved, to hide the communication inside of one behind the other. The pair starts
  // when the inputs of both are there and ends as one; running one after the other is as right.
  bool overlaps_next = false;
  bool operator==(const Action&) const = default;
};

bool is_compute(ActionKind kind);  // F, B, I, W
bool is_send(ActionKind kind);
bool is_receive(ActionKind kind);
bool is_input_backward(ActionKind kind);  // gives the gradient of the input: B, I

// "F", "B", "I", "W", "REDUCE_GRAD", "SEND_F", "RECV_F", "SEND_B", "RECV_B".
const char* letters_of(ActionKind kind);

std::string to_string(const Action& action);  // "2F0", "1REDUCE_GRAD"

struct Schedule {
  std::string name = {};
  StagePlacement placement = {};
  int64_t num_microbatches = 0;
  std::vector<std::vector<Action>> ranks = {};  // compute actions of each rank, in order

  int64_t num_ranks() const { return placement.num_ranks; }
  int64_t num_stages() const { return placement.num_stages(); }
};

}  // namespace tessera::pipeline
