#include "attention/flex/tile_plan.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "attention/block_mask_shared.h"
#include "attention/flex/tile_kernels.h"

namespace tessera::flex {

namespace {

constexpr int64_t kFewestUnits = 8;

// The hull of the set bits of rows [begin, end) of a tile, widened to multiples of kPad.
ColumnSpan hull(const BlockMaskData& data, const uint64_t* words, int64_t begin, int64_t end) {
  const int64_t words_per_row = data.words_per_row();
  int64_t first = data.shape.block.kv;
  int64_t last = -1;
  for (int64_t w = 0; w < words_per_row; ++w) {
    uint64_t any = 0;
    for (int64_t row = begin; row < end; ++row) any |= words[row * words_per_row + w];
    if (any == 0) continue;
    first = std::min<int64_t>(first, w * 64 + std::countr_zero(any));
    last = w * 64 + 63 - std::countl_zero(any);
  }
  if (last < 0) return {};
  return {static_cast<int32_t>(first / kPad * kPad),
          static_cast<int32_t>((last + kPad) / kPad * kPad)};
}

// Pairs that are computed for one tile of this many rows.
int64_t tile_cost(const TileSpans& spans, const BlockRun& run, int64_t rows, int64_t block_kv) {
  if (run.full()) return rows * (run.end - run.begin) * block_kv;
  int64_t cost = 0;
  for (int64_t step = 0; step * kRowStep < rows; ++step) {
    const ColumnSpan span = spans.at(run.tile, step);
    if (!span.empty()) cost += kRowStep * (span.end - span.begin);
  }
  return cost;
}

int64_t column_cost(const BlockMask& mask, const TileSpans& spans, int64_t b, int64_t h,
                    int64_t kv_block) {
  const MaskShape& shape = mask.shape();
  int64_t cost = 0;
  for (const BlockRun& run : mask.q_runs(b, h, kv_block)) {
    const int64_t rows =
        std::min<int64_t>(run.end * shape.block.q, shape.q_len) - run.begin * shape.block.q;
    cost += tile_cost(spans, {0, 1, run.tile}, rows, shape.block.kv);
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

TileSpans::TileSpans(const BlockMask& mask) {
  const BlockMaskData& data = mask.data();
  const int64_t rows = data.shape.block.q;
  steps_ = (rows + kRowStep - 1) / kRowStep;
  spans_.reserve(data.num_tiles() * steps_);
  for (int64_t tile = 0; tile < data.num_tiles(); ++tile) {
    for (int64_t row = 0; row < rows; row += kRowStep) {
      spans_.push_back(hull(data, tile_words(data, tile), row, std::min(row + kRowStep, rows)));
    }
  }
}

std::vector<WorkUnit> forward_units(const BlockMask& mask, const TileSpans& spans, int64_t batch,
                                    int64_t heads) {
  const MaskShape& shape = mask.shape();
  std::vector<WorkUnit> units;
  for (int32_t b = 0; b < batch; ++b) {
    for (int32_t h = 0; h < heads; ++h) {
      for (int32_t q_block = 0; q_block < mask.data().num_q_blocks(); ++q_block) {
        WorkUnit unit{.b = b, .h = h, .begin = q_block, .end = q_block + 1};
        const int64_t rows = block_tokens(q_block, shape.block.q, shape.q_len).size();
        for (const BlockRun& run : mask.runs(b, h, q_block)) {
          unit.cost += tile_cost(spans, run, rows, shape.block.kv);
        }
        units.push_back(unit);
      }
    }
  }
  costliest_first(units);
  return units;
}

BackwardPlan backward_plan(const BlockMask& mask, const TileSpans& spans, int64_t batch,
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
          costs[kv_block] += column_cost(mask, spans, b, h, kv_block);
        }
      }
      append_chunks(costs, {.b = b, .h = kv_head}, plan);
    }
  }
  costliest_first(plan.units);
  return plan;
}

}  // namespace tessera::flex
