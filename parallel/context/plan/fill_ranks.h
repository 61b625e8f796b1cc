// The search behind min_heap: ranks filled one after another with blocks that share their keys.
// Internal to parallel/context/.
#pragma once

#include "parallel/context/plan/block_work.h"

namespace tessera {

// costliest_first: all blocks by descending cost. tolerance: how far from the mean of what is left
// each rank may end, by the mean.
BlockLists fill_ranks(const BlockWork& work, std::vector<int64_t> costliest_first,
                      int64_t num_ranks, double tolerance);

}  // namespace tessera
