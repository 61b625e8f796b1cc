// What a block mask means for the work of flex attention: which units of work there are, and in
// which order they are taken. Pure functions of the mask.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/block_mask.h"
#include "attention/flex/tile_areas.h"

namespace tessera::flex {

// Index of a unit of work: (b, h, block of queries) in the forward pass, (b, key/value head, chunk
// of key blocks) in the backward pass.
struct WorkUnit {
  int32_t b = 0;
  int32_t h = 0;
  int32_t begin = 0;  // block of queries, or first block of keys
  int32_t end = 0;
  int32_t chunk = 0;  // backward: the copy of the gradient of q that it adds to
  int64_t cost = 0;   // computed pairs
};

// One unit per block of queries and head, the costliest first, so that threads finish together.
std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileAreas& areas, int64_t batch,
                                    int64_t heads);

// Units of consecutive key blocks with about the same cost, the costliest first. Each chunk index c
// adds to its own copy of the gradient of q, so their number depends on the shapes alone, never on
// threads: with at least kFewestUnits (batch, head) pairs there is one chunk.
struct BackwardPlan {
  std::vector<WorkUnit> units{};
  int32_t num_chunks = 1;
};
BackwardPlan backward_plan(const BlockMask& mask, const TileAreas& areas, int64_t batch,
                           int64_t heads, int64_t kv_heads);

}  // namespace tessera::flex
