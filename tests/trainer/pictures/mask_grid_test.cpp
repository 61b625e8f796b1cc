#include "trainer/pictures/mask_grid.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/errors.h"

namespace tessera {
namespace {

std::string picture(const TileGrid& grid) {
  std::string text;
  for (int64_t row = 0; row < grid.num_rows; ++row) {
    for (int64_t col = 0; col < grid.num_cols; ++col) {
      text += " ,-+#"[static_cast<size_t>(grid.at(row, col))];
    }
    text += '\n';
  }
  return text;
}

BlockMask causal_mask(int64_t num_tiles) {
  return create_block_mask(causal(),
                           {.q_len = 4 * num_tiles, .kv_len = 4 * num_tiles, .block = {4, 4}});
}

TEST(TileGrid, OneTileACellWhereThereIsRoom) {
  const TileGrid grid = tile_grid(causal_mask(4), 0, 4, 10);
  EXPECT_TRUE(grid.one_tile_a_cell());
  EXPECT_EQ(picture(grid), "-   \n#-  \n##- \n###-\n");
}

// A cell of 2 x 2 causal tiles on the diagonal holds two partial tiles and a full one: the mean is
// 1/2.
TEST(TileGrid, CellsShowTheMeanOfTheirTiles) {
  const TileGrid grid = tile_grid(causal_mask(7), 0, 4, 4);
  EXPECT_EQ(grid.row_step, 2);
  EXPECT_EQ(picture(grid), "-   \n#-  \n##- \n###-\n") << "the last cell has one tile";
  EXPECT_EQ(picture(tile_grid(causal_mask(6), 0, 6, 2)), ", \n- \n+ \n#,\n#-\n#+\n");
}

TEST(TileGrid, ThirdsSeparateTheMeans) {
  // A row of three tiles: full, and two that are absent or partial.
  const auto cell = [](const MaskMod& rule) {
    const BlockMask mask = create_block_mask(rule, {.q_len = 2, .kv_len = 6, .block = {2, 2}});
    return tile_grid(mask, 0, 1, 1).at(0, 0);
  };
  EXPECT_EQ(cell(none()), CellState::kEmpty);
  EXPECT_EQ(cell(first_tokens(1)), CellState::kMostlyEmpty) << "1/6";
  EXPECT_EQ(cell(first_tokens(2)), CellState::kMixed) << "1/3";
  EXPECT_EQ(cell(first_tokens(4)), CellState::kMixed) << "2/3";
  EXPECT_EQ(cell(first_tokens(5)), CellState::kMostlyFull) << "5/6";
  EXPECT_EQ(cell(full()), CellState::kFull);
}

// The expected states are counted tile by tile.
TEST(TileGrid, RandomMasksAndCells) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    const auto upto = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(1, n)(rng); };
    const MaskMod rule = (causal() & sliding_window({.left = upto(30)})) | chunked(upto(12));
    const MaskShape shape{.q_len = upto(60), .kv_len = upto(60), .block = {upto(5), upto(5)}};
    const BlockMask mask = create_block_mask(rule, shape);
    const TileGrid grid = tile_grid(mask, 0, upto(12), upto(12));
    std::vector<int64_t> halves(grid.num_rows * grid.num_cols), tiles(halves.size());
    for (int64_t row = 0; row < mask.data().num_q_blocks(); ++row) {
      for (int64_t col = 0; col < mask.data().num_kv_blocks(); ++col) {
        const int64_t cell = row / grid.row_step * grid.num_cols + col / grid.col_step;
        ++tiles[cell];
        for (const BlockRun& run : mask.runs(0, 0, row)) {
          if (col >= run.begin && col < run.end) halves[cell] += run.full() ? 2 : 1;
        }
      }
    }
    for (size_t i = 0; i < halves.size(); ++i) {
      const double mean = static_cast<double>(halves[i]) / (2.0 * static_cast<double>(tiles[i]));
      const CellState state = grid.cells[i];
      EXPECT_EQ(state == CellState::kEmpty, mean == 0);
      EXPECT_EQ(state == CellState::kFull, mean == 1);
      EXPECT_EQ(state == CellState::kMostlyEmpty, mean > 0 && 3 * mean < 1 - 1e-9) << mean;
      EXPECT_EQ(state == CellState::kMostlyFull, mean < 1 && 3 * mean > 2 + 1e-9) << mean;
    }
  }
}

TEST(TileGrid, NoCellsAreRefused) {
  EXPECT_ERROR(tile_grid(causal_mask(2), 0, 0, 3), "0 x 3", "at least 1 x 1");
}

}  // namespace
}  // namespace tessera
