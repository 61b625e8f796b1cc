// VarlenShard: packed documents of one rank, for kernels that take cumulative lengths (flash
// attention).
//
// The queries of a rank fall into runs: tokens that follow each other in the original order, inside
// one document. Each run is a sequence of its own for the kernel, with the keys from the start of
// its document (or of the window) to its last token; the kernels align causal masks and windows at
// the right end, so nothing else is needed. Keys are gathered by index, once for each run.
//
//   VarlenShard mine = shard_varlen(*to_varlen(mask, B), B, plan, rank);
//   // all_keys [B * T, ...]: row by row the ranks' tokens, laid end to end
//   keys = all_keys.index_select(0, at::tensor(mine.key_places));
//
// Shape legend: B batch rows, T tokens of the whole sequence.
#pragma once

#include "attention/interchange/varlen.h"
#include "parallel/context/plan/shard_plan.h"

namespace tessera {

// Sequence i has the queries from cu_seqlens_q[i] to cu_seqlens_q[i + 1] of the rank's tokens, rows
// of the batch laid end to end, and the key rows from cu_seqlens_k[i] to cu_seqlens_k[i + 1] of the
// gathered ones.
struct VarlenShard {
  std::vector<int32_t> cu_seqlens_q{};
  std::vector<int32_t> cu_seqlens_k{};
  int32_t max_seqlen_q = 0;
  int32_t max_seqlen_k = 0;

  // For each gathered key row, b * T + its place in row b when the ranks' tokens are laid end to
  // end.
  std::vector<int64_t> key_places{};

  bool operator==(const VarlenShard& other) const = default;
};

// The sequences of one rank, over all batch rows. Throws c10::Error when the documents do not add
// up to batch rows of the plan's length, one crosses the end of a row, or the window looks to the
// right (window.right must be 0: causal).
VarlenShard shard_varlen(const Varlen& varlen, int64_t batch, const ShardPlan& plan, int64_t rank);

}  // namespace tessera
