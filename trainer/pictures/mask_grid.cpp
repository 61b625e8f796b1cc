#include "trainer/pictures/mask_grid.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace tessera {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Adds 2 for each full and 1 for each partial tile of a row of tiles to the cells of its grid row.
void add_halves(c10::ArrayRef<BlockRun> runs, int64_t col_step, std::vector<int64_t>& halves) {
  for (const BlockRun& run : runs) {
    for (int64_t col = run.begin / col_step; col * col_step < run.end; ++col) {
      const int64_t begin = std::max<int64_t>(run.begin, col * col_step);
      const int64_t end = std::min<int64_t>(run.end, (col + 1) * col_step);
      halves[col] += (run.full() ? 2 : 1) * (end - begin);
    }
  }
}

CellState state(int64_t halves, int64_t num_tiles) {
  const int64_t all = 2 * num_tiles;
  if (halves == 0) return CellState::kEmpty;
  if (halves == all) return CellState::kFull;
  if (3 * halves < all) return CellState::kMostlyEmpty;
  return 3 * halves > 2 * all ? CellState::kMostlyFull : CellState::kMixed;
}

}  // namespace

TileGrid tile_grid(const BlockMask& mask, int64_t b, int64_t max_rows, int64_t max_cols) {
  TORCH_CHECK(max_rows >= 1 && max_cols >= 1, "tile_grid: got ", max_rows, " x ", max_cols,
              " cells, expected at least 1 x 1");
  const int64_t num_q_blocks = mask.data().num_q_blocks();
  const int64_t num_kv_blocks = mask.data().num_kv_blocks();
  TileGrid grid{.row_step = ceil_div(num_q_blocks, max_rows),
                .col_step = ceil_div(num_kv_blocks, max_cols)};
  grid.num_rows = ceil_div(num_q_blocks, grid.row_step);
  grid.num_cols = ceil_div(num_kv_blocks, grid.col_step);
  for (int64_t first_row = 0; first_row < num_q_blocks; first_row += grid.row_step) {
    const int64_t end_row = std::min(first_row + grid.row_step, num_q_blocks);
    std::vector<int64_t> halves(grid.num_cols);
    for (int64_t row = first_row; row < end_row; ++row) {
      add_halves(mask.runs(b, 0, row), grid.col_step, halves);
    }
    for (int64_t col = 0; col < grid.num_cols; ++col) {
      const int64_t end_col = std::min((col + 1) * grid.col_step, num_kv_blocks);
      grid.cells.push_back(
          state(halves[col], (end_row - first_row) * (end_col - col * grid.col_step)));
    }
  }
  return grid;
}

}  // namespace tessera
