// The units of work of flex attention on a block mask, and the order in which they are taken. Units
// are pure functions of mask, head counts and (forward) threads.
// Internal to attention/backends/flex/.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backends/flex/tile_areas.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

// batch and heads are those of the inputs, not of the mask; heads is a multiple of kv_heads.
struct HeadCounts {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
};

// Consecutive blocks of one key/value head and its query heads: of queries in the forward pass, of
// keys in the backward pass.
struct WorkUnit {
  int32_t b = 0;
  int32_t h = 0;      // key/value head
  int32_t begin = 0;  // blocks [begin, end)
  int32_t end = 0;
  int32_t chunk = 0;  // index of the unit among those of its head
  int64_t cost = 0;   // computed pairs
};

// The units of the forward pass, of about the same cost, the costliest first, so that threads
// finish together: a few for each thread, and no more of a head than that takes, as each unit
// copies the keys that it meets. Rows of the result do not depend on their unit.
std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileAreas& areas,
                                    const HeadCounts& counts, int64_t num_threads);

// The units of the backward pass, of about the same cost, the costliest first. Each chunk index
// adds to its own copy of the gradient of q, so the number of chunks depends on the shapes alone,
// never on threads: with at least kFewestUnits (tile_plan.cpp) pairs of batch row and key/value
// head there is one chunk.
struct BackwardPlan {
  std::vector<WorkUnit> units{};
  int32_t num_chunks = 1;
};
BackwardPlan backward_plan(const BlockMask& mask, const TileAreas& areas, const HeadCounts& counts);

}  // namespace tessera::flex
