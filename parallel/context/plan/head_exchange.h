// All-to-all over heads (Ulysses): which heads each rank computes for the whole sequence.
//
// Before attention every rank sends the tokens it holds of each head group to the rank that
// computes the group, and gets all other tokens of its own group; after attention the outputs go
// back. Attention itself then needs no exchange and takes the mask of the whole sequence.
//
//   HeadExchange heads(/*query_heads=*/32, /*kv_heads=*/8, /*num_ranks=*/4);
//   heads.query(rank);      // {8 r, 8 r + 8}
//   heads.kv(rank);         // {2 r, 2 r + 2}
//
// Query heads must be a multiple of the ranks and of the key heads. Key heads must be a multiple of
// the ranks (each rank gets a share) or a divisor of them (each key head goes to ranks / kv_heads
// ranks, which multiplies its traffic).
#pragma once

#include "attention/masks/mask_mod.h"
#include "parallel/context/plan/kv_exchange.h"

namespace tessera {

class HeadExchange {
 public:
  // Throws c10::Error with the numbers when a rule above is broken.
  HeadExchange(int64_t query_heads, int64_t kv_heads, int64_t num_ranks);

  // Heads that a rank computes, as half-open ranges.
  TokenRange query(int64_t rank) const;
  TokenRange kv(int64_t rank) const;

  int64_t query_heads_per_rank() const { return query_heads_ / num_ranks_; }
  int64_t kv_heads_per_rank() const;
  int64_t num_ranks() const { return num_ranks_; }

  // Bytes that one rank gets in a forward: queries, keys and values before attention, outputs after
  // it. sizes.kv_heads is not looked at.
  int64_t received_bytes(const ShardPlan& plan, const KvSizes& sizes) const;

 private:
  int64_t query_heads_;
  int64_t kv_heads_;
  int64_t num_ranks_;
};

}  // namespace tessera
