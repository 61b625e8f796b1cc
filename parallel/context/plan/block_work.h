// BlockWork: what attention costs each block of a sequence, and which blocks it reads.
//
// It is all that load balancing and the exchange of keys need to know of the masks, in units of a
// plan's blocks.
//
//   BlockWork work = block_work(masks, /*block_size=*/512, {.layers = {{"sliding", 20},
//                                                                      {"global", 4}}});
//   ShardPlan plan = min_heap_plan(work, num_ranks);
//   double slowest_by_mean = imbalance(plan, work);
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attention/block_mask/attention_masks.h"
#include "parallel/context/plan/shard_plan.h"

namespace tessera {

// The cost of an allowed pair in a full and in a partial tile, and the number of layers that use
// each mask (masks that are not named count as one layer). With the defaults the cost of a block is
// its number of live pairs.
struct WorkWeights {
  double full_pair = 1;
  double partial_pair = 1;
  std::vector<std::pair<std::string, double>> layers{};
};

// The key blocks that the queries of each block may attend to in any batch row or head of a mask,
// as ascending ranges: a block is fetched when any of them needs it.
struct BlockReads {
  double weight = 1;                 // layers that use the mask
  std::vector<RangeSet> of_block{};  // ranges of blocks
};

struct BlockWork {
  int64_t seq_len = 0;
  int64_t block_size = 0;
  std::vector<double> costs{};      // by block
  std::vector<BlockReads> reads{};  // by mask

  int64_t num_blocks() const { return static_cast<int64_t>(costs.size()); }
};

// The work of all masks together. Costs are means over each mask's batch rows and heads, so that
// masks of different batch or heads add up. Throws c10::Error when there is no mask or `layers`
// names one that is not there, and naming the mask when it is sharded already, not over the rows'
// tokens, not square, its length is not a multiple of the block, or the block not one of its tiles.
BlockWork block_work(const AttentionMasks& masks, int64_t block_size,
                     const WorkWeights& weights = {});

// The key blocks that each block of queries of one mask touches, over all batch rows and heads.
std::vector<RangeSet> block_reads(const BlockMask& mask, int64_t block_size);

// The cost of the costliest rank divided by the mean: 1 is perfect. Throws c10::Error when plan and
// work have different numbers of blocks.
double imbalance(const ShardPlan& plan, const BlockWork& work);

// Throw c10::Error naming `what` unless a mask, or its shape alone, is one of whole rows of this
// length and its tiles divide the blocks. check_mask_blocks also refuses a mask with a plan.
void check_mask_blocks(const std::string& what, const BlockMask& mask, int64_t seq_len,
                       int64_t block_size);
void check_shape_blocks(const std::string& what, const MaskShape& shape, int64_t seq_len,
                        int64_t block_size);

}  // namespace tessera
