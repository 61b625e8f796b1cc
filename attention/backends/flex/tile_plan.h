// What a block mask means for the work of flex attention: which units of work there are, and in
// which order they are taken. Pure functions of the mask.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backends/flex/tile_areas.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

struct HeadCounts {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
};

// Consecutive blocks of one key/value head and its query heads: of queries in the forward pass, of
// keys in the backward pass.
struct WorkUnit {
  int32_t b = 0;
  int32_t h = 0;
  int32_t begin = 0;
  int32_t end = 0;
  int32_t chunk = 0;  // of the head's units
  int64_t cost = 0;   // computed pairs
};

// Units of about the same cost, the costliest first, so that threads finish together: a few for
// each thread, and no more of a head than that takes, as each copies the keys that it meets. Rows
// of the result do not depend on their unit.
std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileAreas& areas,
                                    const HeadCounts& counts, int64_t num_threads);

// Units of about the same cost, the costliest first. Each chunk index c adds to its own copy of the
// gradient of q, so their number depends on the shapes alone, never on threads: with at least
// kFewestUnits (batch, head) pairs there is one chunk.
struct BackwardPlan {
  std::vector<WorkUnit> units{};
  int32_t num_chunks = 1;
};
BackwardPlan backward_plan(const BlockMask& mask, const TileAreas& areas, const HeadCounts& counts);

}  // namespace tessera::flex
