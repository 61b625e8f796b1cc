#include "attention/backends/flex/tile_plan.h"

#include <algorithm>
#include <numeric>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera::flex {

namespace {

constexpr int64_t kFewestUnits = 8;
constexpr int64_t kUnitsPerThread = 4;

int64_t row_cost(const BlockMask& mask, const TileAreas& areas, int64_t b, int64_t h,
                 int64_t q_block) {
  const MaskShape& shape = mask.shape();
  const int64_t rows = block_tokens(q_block, shape.block.q, shape.q_len).size();
  int64_t cost = 0;
  for (const BlockRun& run : mask.runs(b, h, q_block)) {
    cost += (run.end - run.begin) * areas.computed_pairs(run.tile, rows);
  }
  return cost;
}

int64_t column_cost(const BlockMask& mask, const TileAreas& areas, int64_t b, int64_t h,
                    int64_t kv_block) {
  const MaskShape& shape = mask.shape();
  int64_t cost = 0;
  for (const BlockRun& run : mask.q_runs(b, h, kv_block)) {
    const int64_t rows =
        std::min<int64_t>(run.end * shape.block.q, shape.q_len) - run.begin * shape.block.q;
    cost += areas.computed_pairs(run.tile, rows);
  }
  return cost;
}

// Cuts the blocks of one head into units of about equal cost, at most num_chunks.
void append_chunks(const std::vector<int64_t>& costs, int64_t num_chunks, WorkUnit unit,
                   std::vector<WorkUnit>& units) {
  const int64_t total = std::accumulate(costs.begin(), costs.end(), int64_t{0});
  int64_t done = 0;
  for (unit.chunk = 0; unit.chunk < num_chunks; ++unit.chunk) {
    const bool last = unit.chunk + 1 == num_chunks;
    const int64_t until = total * (unit.chunk + 1) / num_chunks;
    unit.begin = unit.end;
    unit.cost = 0;
    // A block goes where its middle lies.
    while (unit.end < static_cast<int32_t>(costs.size()) &&
           (last || done + costs[unit.end] / 2 < until)) {
      done += costs[unit.end];
      unit.cost += costs[unit.end++];
    }
    if (unit.begin < unit.end) units.push_back(unit);
  }
}

// The units of all heads, the costliest first. block_cost(b, query head, block) gives the computed
// pairs of a block.
template <typename BlockCost>
std::vector<WorkUnit> units_of_heads(const HeadCounts& counts, int64_t num_blocks,
                                     int64_t num_chunks, BlockCost block_cost) {
  const int64_t group = counts.heads / counts.kv_heads;
  std::vector<WorkUnit> units;
  for (int32_t b = 0; b < counts.batch; ++b) {
    for (int32_t kv_head = 0; kv_head < counts.kv_heads; ++kv_head) {
      std::vector<int64_t> costs(num_blocks);
      for (int64_t block = 0; block < num_blocks; ++block) {
        for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
          costs[block] += block_cost(b, h, block);
        }
      }
      append_chunks(costs, num_chunks, {.b = b, .h = kv_head}, units);
    }
  }
  std::stable_sort(units.begin(), units.end(),
                   [](const WorkUnit& x, const WorkUnit& y) { return x.cost > y.cost; });
  return units;
}

int64_t chunks_for(int64_t num_units, const HeadCounts& counts, int64_t num_blocks) {
  const int64_t pairs = counts.batch * counts.kv_heads;
  return std::min((num_units + pairs - 1) / pairs, num_blocks);
}

}  // namespace

std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileAreas& areas,
                                    const HeadCounts& counts, int64_t num_threads) {
  const int64_t num_blocks = mask.data().num_q_blocks();
  return units_of_heads(
      counts, num_blocks, chunks_for(kUnitsPerThread * num_threads, counts, num_blocks),
      [&](int64_t b, int64_t h, int64_t q_block) { return row_cost(mask, areas, b, h, q_block); });
}

BackwardPlan backward_plan(const BlockMask& mask, const TileAreas& areas,
                           const HeadCounts& counts) {
  const int64_t num_blocks = mask.data().num_kv_blocks();
  const int64_t num_chunks = chunks_for(kFewestUnits, counts, num_blocks);
  return {.units = units_of_heads(counts, num_blocks, num_chunks,
                                  [&](int64_t b, int64_t h, int64_t kv_block) {
                                    return column_cost(mask, areas, b, h, kv_block);
                                  }),
          .num_chunks = static_cast<int32_t>(num_chunks)};
}

}  // namespace tessera::flex
