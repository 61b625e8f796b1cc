// TileAreas: the rectangles of partial tiles that are computed; all live pairs lie inside them.
// Areas are pure functions of the mask. Internal to attention/backends/flex/.
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

// A slab of a tile cut twice, as some products sum over its columns and some over its rows. Areas
// by columns have no columns in common, areas by rows no rows, and both lists are ascending. The
// areas by columns hold all live pairs, and the areas by rows hold all pairs of the areas by
// columns.
struct SlabAreas {
  std::span<const TileArea> by_rows{};
  std::span<const TileArea> by_columns{};
};

// The areas of every kSlabRows rows of every bit tile of a mask.
class TileAreas {
 public:
  // Areas begin at rows that are multiples of `row_step`, a divisor of kSlabRows.
  TileAreas(const BlockMask& mask, int32_t row_step);

  // The areas of slab `slab` (rows from slab * kSlabRows on) of bit tile `tile`. The spans live as
  // long as this object.
  SlabAreas at(int32_t tile, int64_t slab) const;

  // The number of pairs that are computed of bit tile `tile`, or of `num_rows` rows of a full tile
  // (BlockRun::kFullTiles). num_rows counts for full tiles only.
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
