// KvExchange: which blocks of keys and values travel between the ranks of a context-parallel group.
//
// Keys lie where the plan puts their tokens. A rank's rows touch some blocks of keys; those that
// another rank holds must be fetched, and their gradients returned by the same lists the other way
// round. Every method but all-to-all over heads (head_exchange.h) is a list of exchanges:
//
//   needed keys   one exchange of exactly the blocks that a rank's rows touch
//   all-gather    one exchange of every block
//   ring          step i brings the whole shard of rank - i; no message where no row touches it
//
// A ring's shards come straight from their owners instead of being handed on: a shard then visits
// no rank that has no use for it, and the next step's can travel while this one's is computed.
//
//   BlockLists needed = needed_kv_by_rank(mask, plan);
//   KvExchange mine = needed_kv_exchange(plan, rank, needed);
//   mine.receive[peer]                 // ascending; the peer's exchange has the same in send[rank]
//
// The functions are pure, on values; all ranks that call them with equal arguments agree on every
// message. They throw c10::Error for a rank, step or block out of range and for lists of another
// number of ranks.
#pragma once

#include "attention/block_mask/block_mask.h"
#include "parallel/context/plan/shard_plan.h"

namespace tessera {

struct KvExchange {
  BlockLists send{};     // by peer: own blocks that the peer gets, ascending; none to oneself
  BlockLists receive{};  // by peer: blocks of the peer that come here

  // The keys at hand afterwards, ascending: the order in which the mask of this exchange counts.
  std::vector<int64_t> kv_blocks{};

  // For each of kv_blocks its place in [own blocks, received from rank 0, from rank 1, ...].
  std::vector<int64_t> places{};

  int64_t num_sent() const;
  int64_t num_received() const;

  bool operator==(const KvExchange& other) const = default;
};

// The plan's blocks of keys that the rows of one rank touch, over all batch rows and heads,
// ascending. The mask `rows` is the rank's tokens by all keys in global order. Throws c10::Error
// when lengths or tiles do not fit the plan.
std::vector<int64_t> needed_kv_blocks(const BlockMask& rows, const ShardPlan& plan);

// The key blocks that the rows of every rank touch, by rank, from the mask of the whole sequence.
BlockLists needed_kv_by_rank(const BlockMask& whole, const ShardPlan& plan);

// The number of blocks of other ranks that come to a rank, over all ranks: the traffic of needed
// keys.
int64_t num_moved_blocks(const ShardPlan& plan, const BlockLists& needed_by_rank);

// The exchange of needed keys; kv_blocks are the own blocks, touched or not, and the needed blocks
// of other ranks.
KvExchange needed_kv_exchange(const ShardPlan& plan, int64_t rank,
                              const BlockLists& needed_by_rank);

// The exchange of an all-gather; kv_blocks are all blocks.
KvExchange all_gather_exchange(const ShardPlan& plan, int64_t rank);

// Step `step` of a ring (0: own keys, no message): this rank's shard goes to rank + step, that of
// rank - step comes here, each only when the receiver's rows touch any of it. kv_blocks is the
// shard that came (in step 0 the own one), empty when this rank's rows touch none of it.
KvExchange ring_exchange(const ShardPlan& plan, int64_t rank, int64_t step,
                         const BlockLists& needed_by_rank);

// The sizes that turn blocks into bytes: batch rows, key heads, head dims of keys and values, bytes
// of an element.
struct KvSizes {
  int64_t batch = 1;
  int64_t kv_heads = 1;
  int64_t key_dim = 1;
  int64_t value_dim = 1;
  int64_t element_size = 4;
};

// Bytes of the keys and values of num_blocks blocks; their gradients take as many in the same type.
int64_t kv_bytes(int64_t num_blocks, const ShardPlan& plan, const KvSizes& sizes);

}  // namespace tessera
