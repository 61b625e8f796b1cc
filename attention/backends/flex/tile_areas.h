// Which rectangles of a partial tile are computed: its live pairs lie inside them. Pure functions
// of the mask.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

// Rows of a tile that are computed together.
inline constexpr int32_t kSlabRows = 128;

// Columns of a tile, from a multiple of kPad to a multiple of kPad.
struct ColumnSpan {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t size() const { return end - begin; }
};

// Rows [row, row + num_rows) of a tile in the columns of `span`.
struct TileArea {
  int32_t row = 0;
  int32_t num_rows = 0;
  ColumnSpan span{};
  int64_t pairs() const { return static_cast<int64_t>(num_rows) * span.size(); }
};

// A slab of a tile cut twice, as some products sum over its columns and some over its rows: areas
// by columns, of columns of their own, and areas by rows, of rows of their own, both ascending.
// Those by columns hold all live pairs, and those by rows all of those by columns.
struct SlabAreas {
  std::span<const TileArea> by_rows{};
  std::span<const TileArea> by_columns{};
};

// The areas of every kSlabRows rows of every bit tile of a mask.
class TileAreas {
 public:
  // Areas begin at multiples of `row_step`, a divisor of kSlabRows.
  TileAreas(const BlockMask& mask, int32_t row_step);

  SlabAreas at(int32_t tile, int64_t slab) const;

  // What is computed of a tile, or of `num_rows` rows of a full one.
  int64_t computed_pairs(int32_t tile, int64_t num_rows) const;

 private:
  struct Slab {
    std::vector<TileArea> by_rows;
    std::vector<TileArea> by_columns;
  };

  int64_t slabs_per_tile_;
  int64_t block_kv_;
  std::vector<Slab> slabs_;
};

}  // namespace tessera::flex
