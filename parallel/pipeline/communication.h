// ExecutionPlan: the actions of each rank, communication included, as lists that the runtime
// replays.
//
//   derive_communication(make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 2}))
//     rank 0: 0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1 0REDUCE_GRAD
//     rank 1: 1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1 1REDUCE_GRAD
//
// 0SEND_F0: stage 0 sends its output of microbatch 0; 1RECV_F0: stage 1 receives its input. Where
// two stages that follow each other are on one rank, the value is handed over without either.
//
// The lists cannot deadlock. They are cuts of one order of everything, in which every send stands
// next to its receive: the first event of that order that is not done can always go on, whether a
// send waits for its receiver (rendezvous) or not (buffered). Between two ranks messages are sent
// and received in the same order, so tags are a check, not a need.
//
// A receive stands where the value is made, usually before an action that does not need it. Posting
// it there and waiting for it in front of the action that does overlaps it with what lies between.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

struct ExecutionPlan {
  StagePlacement placement = {};
  int64_t num_microbatches = 0;
  // The actions by rank: computation, sends, receives, one kReduceGradients per stage after its
  // last B or W. Sends come right after the action, or the overlapped pair, that makes the value.
  std::vector<std::vector<Action>> ranks = {};
};

// The execution plan of a schedule, which must pass validate_schedule; throws c10::Error when it
// deadlocks.
ExecutionPlan derive_communication(const Schedule& schedule);

// The rank at the other end of a send or receive.
int64_t peer_rank(const Action& transfer, const StagePlacement& placement);

// The tag of a send and its receive, different from that of all others: from 0 on, below
// 2 * stages * microbatches.
int64_t message_tag(const Action& transfer, int64_t num_microbatches);

enum class Transport {
  kBuffered,    // a send is done at once; a receive waits
  kRendezvous,  // a send and its receive wait for each other
};

// Throws c10::Error with the first reason (rank, position, action) unless the ranks reach the end
// of their lists, every value is there when it is used, and sends and receives match one to one
// and, between two ranks, in order.
void validate_plan(const ExecutionPlan& plan, Transport transport);

}  // namespace tessera::pipeline
