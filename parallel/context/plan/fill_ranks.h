// Internal to parallel/context/plan/: the search behind min_heap, which fills ranks one after
// another with blocks that share their keys (load_balance.h describes it).
#pragma once

#include "parallel/context/plan/block_work.h"

namespace tessera {

// The blocks of every rank, equally many each, in the order in which they were taken.
// costliest_first has all blocks by descending cost; num_ranks divides their number. Each rank ends
// within tolerance times the mean of the remaining cost per rank where that can be reached.
BlockLists fill_ranks(const BlockWork& work, std::vector<int64_t> costliest_first,
                      int64_t num_ranks, double tolerance);

}  // namespace tessera
