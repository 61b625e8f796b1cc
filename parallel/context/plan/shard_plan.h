// ShardPlan: which blocks of the sequence each rank of a context-parallel group holds.
//
// The sequence of a microbatch is cut into blocks of equal size; every rank holds equally many, in
// ascending order: its queries, and the keys and values that it computes from them. There is one
// plan for all rows of the microbatch, so that everything [B, T] is permuted along T alike. A plan
// is a value: every rank computes the same one, and no communication is needed to agree on it.
//
//   ShardPlan plan(/*seq_len=*/16, /*block_size=*/4, {{0, 3}, {1, 2}});    // head-tail, 2 ranks
//   Batch mine = shard(batch, plan, rank);                                 // [B, T / num_ranks]
//   at::Tensor whole_BT = unshard_tokens(all_ranks_BT, plan, /*dim=*/1);   // original order
//
// The block is a multiple of the masks' tiles (shard_masks.h). A length that the ranks cannot share
// in whole blocks is refused, with numbers, when the plan is made: before any communication.
//
// Shape legend: B batch rows, T tokens of the whole sequence.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.h"

namespace tessera {

// The blocks (or tokens) of every rank, by rank.
using BlockLists = std::vector<std::vector<int64_t>>;

class ShardPlan {
 public:
  // `blocks` has every block of the sequence once, equally many for each rank, in any order; they
  // are kept ascending. Throws c10::Error with the numbers got and expected otherwise.
  ShardPlan(int64_t seq_len, int64_t block_size, BlockLists blocks);

  int64_t seq_len() const { return seq_len_; }
  int64_t block_size() const { return block_size_; }
  int64_t num_ranks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t num_blocks() const { return seq_len_ / block_size_; }
  int64_t blocks_per_rank() const { return num_blocks() / num_ranks(); }
  int64_t tokens_per_rank() const { return seq_len_ / num_ranks(); }

  // Blocks of a rank, ascending.
  const std::vector<int64_t>& blocks(int64_t rank) const;
  const BlockLists& blocks() const { return blocks_; }

  // The inverse of blocks(): the rank that holds a block, and the block's index among that rank's.
  int64_t owner(int64_t block) const { return owners_[block]; }
  int64_t slot(int64_t block) const { return slots_[block]; }

  // int64 [T]: the original token at each place when the ranks' tokens are laid end to end, and the
  // inverse, the place of each original token.
  at::Tensor token_order() const;
  at::Tensor inverse_token_order() const;

  // "4 ranks x 8 blocks of 128 tokens".
  std::string to_string() const;

  bool operator==(const ShardPlan& other) const = default;

 private:
  int64_t seq_len_;
  int64_t block_size_;
  BlockLists blocks_;
  std::vector<int64_t> owners_;  // by block
  std::vector<int64_t> slots_;
};

// The tokens of one rank along `dim`, in a new tensor. Throws c10::Error unless `dim` has the whole
// sequence's length.
at::Tensor shard_tokens(const at::Tensor& whole, const ShardPlan& plan, int64_t rank, int64_t dim);

// The inverse of shard_tokens: from the ranks' tokens laid end to end along `dim` to the original
// order. Throws c10::Error unless `dim` has the whole sequence's length.
at::Tensor unshard_tokens(const at::Tensor& by_rank, const ShardPlan& plan, int64_t dim);

// One rank's tokens of every member of the batch. Positions and document ids stay those of the
// whole sequence, so equal ids need not be adjacent. Throws c10::Error for a batch that does not
// pass check() or has another length.
Batch shard(const Batch& batch, const ShardPlan& plan, int64_t rank);

// feature_of_token_BT is cut with the tokens; patches stay whole: each rank encodes the images of
// its rows and takes the features of its own tokens, so that the encoder's gradients add up over
// the ranks.
Extras shard(const Extras& extras, const ShardPlan& plan, int64_t rank);

// Throws c10::Error, with the numbers and `caller`, unless num_ranks ranks can hold equally many
// whole blocks of a sequence.
void check_shardable(const char* caller, int64_t seq_len, int64_t block_size, int64_t num_ranks);

}  // namespace tessera
