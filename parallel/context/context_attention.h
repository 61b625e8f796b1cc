// Attention of one rank of a context-parallel group, as a decorator of any attention operator.
// Shapes and dtypes are those of attention/op/attention.h.
//
//   AttentionOp attend = wrap_context_parallel(registry.make("flex"), group);
//   AttentionMasks mine = shard(masks, plan, group.rank(), ContextMethod::kNeededKv);
//   attend(q_BTHD, k_BTKD, v_BTKE, mine.at("global"));      // T: this rank's tokens
//
// The rank's queries meet all keys that the mask allows, wherever they are: keys and values are
// fetched as the mask's ContextShard says, the operator inside attends with the mask of each step,
// and partial results are merged. In backward the gradients of keys and values return to their
// owners, whose k and v get the sum over ranks. Ranks together compute the result that one rank
// would have for the whole sequence, forward and backward; gradients of sinks are this rank's part.
//
// Methods differ in what travels (shard_masks.h, docs/context.md). A ring keeps the shards that it
// fetched until backward; activation checkpointing of the layer drops and fetches them again. The
// next step's keys travel while a step is computed, and so do the last step's gradients.
#pragma once

#include "attention/op/attention.h"
#include "parallel/comm/process_group.h"
#include "parallel/context/plan/shard_masks.h"

namespace tessera {

// Returns an operator named "context(<inner>)". All ranks of the group call it with masks of one
// plan and one method, forward and backward.
//
// A call throws c10::Error when the mask carries no ContextShard, the group is not the plan's or
// this rank not its own, or q or k are not as long as the rank's share; bias, ALiBi and weights are
// refused by name (their positions are those of the whole sequence), as are masks of several heads
// under kAllToAll. A ring, sinks and lse need the operator inside to return lse. The backward of a
// call runs once; a second one throws c10::Error. CommError when a rank is lost.
AttentionOp wrap_context_parallel(AttentionOp inner, ProcessGroup group);

}  // namespace tessera
