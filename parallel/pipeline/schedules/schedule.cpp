#include "parallel/pipeline/schedules/schedule.h"

#include <c10/util/Exception.h>

namespace tessera::pipeline {

bool is_compute(ActionKind kind) {
  return kind == ActionKind::kForward || kind == ActionKind::kBackwardWeight ||
         is_input_backward(kind);
}

bool is_send(ActionKind kind) {
  return kind == ActionKind::kSendForward || kind == ActionKind::kSendBackward;
}

bool is_receive(ActionKind kind) {
  return kind == ActionKind::kReceiveForward || kind == ActionKind::kReceiveBackward;
}

bool is_input_backward(ActionKind kind) {
  return kind == ActionKind::kBackward || kind == ActionKind::kBackwardInput;
}

const char* letters_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return "F";
    case ActionKind::kBackward:
      return "B";
    case ActionKind::kBackwardInput:
      return "I";
    case ActionKind::kBackwardWeight:
      return "W";
    case ActionKind::kReduceGradients:
      return "REDUCE_GRAD";
    case ActionKind::kSendForward:
      return "SEND_F";
    case ActionKind::kReceiveForward:
      return "RECV_F";
    case ActionKind::kSendBackward:
      return "SEND_B";
    case ActionKind::kReceiveBackward:
      return "RECV_B";
  }
  TORCH_INTERNAL_ASSERT(false, "unknown action kind");
}

std::string to_string(const Action& action) {
  const std::string text = std::to_string(action.stage) + letters_of(action.kind);
  if (action.kind == ActionKind::kReduceGradients) return text;
  return text + std::to_string(action.microbatch);
}

}  // namespace tessera::pipeline
