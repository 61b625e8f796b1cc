#include "attention/flex/tile_plan.h"

#include <algorithm>
#include <numeric>

#include "attention/block_mask_shared.h"

namespace tessera::flex {

namespace {

constexpr int64_t kFewestUnits = 8;

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

// Cuts the key blocks of one key/value head into plan.num_chunks units of about equal cost.
void append_chunks(const std::vector<int64_t>& costs, WorkUnit unit, BackwardPlan& plan) {
  const int64_t total = std::accumulate(costs.begin(), costs.end(), int64_t{0});
  int64_t done = 0;
  for (unit.chunk = 0; unit.chunk < plan.num_chunks; ++unit.chunk) {
    const bool last = unit.chunk + 1 == plan.num_chunks;
    const int64_t until = total * (unit.chunk + 1) / plan.num_chunks;
    unit.begin = unit.end;
    unit.cost = 0;
    // A block goes where its middle lies.
    while (unit.end < static_cast<int32_t>(costs.size()) &&
           (last || done + costs[unit.end] / 2 < until)) {
      done += costs[unit.end];
      unit.cost += costs[unit.end++];
    }
    plan.units.push_back(unit);
  }
}

void costliest_first(std::vector<WorkUnit>& units) {
  std::stable_sort(units.begin(), units.end(),
                   [](const WorkUnit& a, const WorkUnit& b) { return a.cost > b.cost; });
}

}  // namespace

std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileAreas& areas, int64_t batch,
                                    int64_t heads) {
  const MaskShape& shape = mask.shape();
  std::vector<WorkUnit> units;
  for (int32_t b = 0; b < batch; ++b) {
    for (int32_t h = 0; h < heads; ++h) {
      for (int32_t q_block = 0; q_block < mask.data().num_q_blocks(); ++q_block) {
        WorkUnit unit{.b = b, .h = h, .begin = q_block, .end = q_block + 1};
        const int64_t rows = block_tokens(q_block, shape.block.q, shape.q_len).size();
        for (const BlockRun& run : mask.runs(b, h, q_block)) {
          unit.cost += (run.end - run.begin) * areas.computed_pairs(run.tile, rows);
        }
        units.push_back(unit);
      }
    }
  }
  costliest_first(units);
  return units;
}

BackwardPlan backward_plan(const BlockMask& mask, const TileAreas& areas, int64_t batch,
                           int64_t heads, int64_t kv_heads) {
  const int64_t num_blocks = mask.data().num_kv_blocks();
  const int64_t group = heads / kv_heads;
  const int64_t pairs = batch * kv_heads;
  BackwardPlan plan;
  plan.num_chunks = static_cast<int32_t>(std::min((kFewestUnits + pairs - 1) / pairs, num_blocks));
  for (int32_t b = 0; b < batch; ++b) {
    for (int32_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
      std::vector<int64_t> costs(num_blocks);
      for (int64_t kv_block = 0; kv_block < num_blocks; ++kv_block) {
        for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
          costs[kv_block] += column_cost(mask, areas, b, h, kv_block);
        }
      }
      append_chunks(costs, {.b = b, .h = kv_head}, plan);
    }
  }
  costliest_first(plan.units);
  return plan;
}

}  // namespace tessera::flex
