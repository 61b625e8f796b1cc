// The tiles of a mask on a grid of cells that fits on a screen: what pictures are drawn from.
// Internal to trainer/pictures/.
//
//   const TileGrid grid = tile_grid(mask, /*b=*/0, /*max_rows=*/64, /*max_cols=*/64);
//   if (grid.at(0, 0) == CellState::kFull) ...
#pragma once

#include <cstdint>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// The mean of the tiles of a cell, where a full tile counts 1, a partial one 1/2 and an absent one
// 0. The states in their order: exactly 0, below 1/3, 1/3 to 2/3, above 2/3, exactly 1. A single
// partial tile is kMixed.
enum class CellState { kEmpty, kMostlyEmpty, kMixed, kMostlyFull, kFull };

struct TileGrid {
  int64_t num_rows = 0;
  int64_t num_cols = 0;
  int64_t row_step = 1;  // rows of tiles in a cell; the last cells may have fewer
  int64_t col_step = 1;
  std::vector<CellState> cells{};  // row by row

  CellState at(int64_t row, int64_t col) const { return cells[row * num_cols + col]; }
  bool one_tile_a_cell() const { return row_step == 1 && col_step == 1; }
};

// The tiles of batch row b and head 0 in at most max_rows x max_cols cells. Takes O(runs + cells of
// the tiles' rows), never O(tiles). Throws c10::Error when max_rows or max_cols is below 1.
TileGrid tile_grid(const BlockMask& mask, int64_t b, int64_t max_rows, int64_t max_cols);

}  // namespace tessera
