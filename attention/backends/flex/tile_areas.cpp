#include "attention/backends/flex/tile_areas.h"

#include <algorithm>

#include "attention/backends/flex/tile_kernels.h"
#include "attention/block_mask/block_mask_shared.h"

namespace tessera::flex {

namespace {

// The number of dead pairs that may be computed in order to save a product.
constexpr int64_t kFewPairs = 64;

// The bits of one tile, by panels of kPad columns.
class TileBits {
 public:
  TileBits(const BlockMaskData& data, int64_t tile)
      : words_(tile_words(data, tile)), words_per_row_(data.words_per_row()) {}

  // Columns [kPad * panel, kPad * (panel + 1)) of a row.
  uint64_t panel(int64_t row, int64_t panel) const {
    constexpr int64_t kPanels = 64 / kPad;
    return words_[row * words_per_row_ + panel / kPanels] >> (panel % kPanels * kPad) &
           ((uint64_t{1} << kPad) - 1);
  }

  // The smallest area with all set bits of a panel in rows [begin, end), from a multiple of
  // row_step.
  TileArea hull_of_panel(int32_t p, int32_t begin, int32_t end, int32_t row_step) const {
    while (begin < end && panel(begin, p) == 0) ++begin;
    if (begin == end) return {};
    while (panel(end - 1, p) == 0) --end;
    begin = begin / row_step * row_step;
    return {begin, end - begin, {p * kPad, (p + 1) * kPad}};
  }

 private:
  const uint64_t* words_;
  int64_t words_per_row_;
};

TileArea box(const TileArea& a, const TileArea& b) {
  const int32_t row = std::min(a.row, b.row);
  const int32_t end = std::max(a.row + a.num_rows, b.row + b.num_rows);
  return {row, end - row, {std::min(a.span.begin, b.span.begin), std::max(a.span.end, b.span.end)}};
}

// The smallest box around what the areas hold of rows [begin, end).
TileArea rows_of(std::span<const TileArea> areas, int32_t begin, int32_t end) {
  TileArea all{};
  for (const TileArea& area : areas) {
    const int32_t row = std::max(area.row, begin);
    const int32_t num_rows = std::min(area.row + area.num_rows, end) - row;
    if (num_rows <= 0) continue;
    const TileArea piece{row, num_rows, area.span};
    all = all.num_rows == 0 ? piece : box(all, piece);
  }
  return all;
}

// Joins an area to the last one where their box holds little else, and appends it otherwise.
void append(TileArea area, std::vector<TileArea>& areas) {
  if (area.num_rows == 0) return;
  if (!areas.empty()) {
    const TileArea both = box(areas.back(), area);
    if (both.pairs() - areas.back().pairs() - area.pairs() <= kFewPairs) {
      areas.back() = both;
      return;
    }
  }
  areas.push_back(area);
}

}  // namespace

TileAreas::TileAreas(const BlockMask& mask, int32_t row_step)
    : slabs_per_tile_((mask.shape().block.q + kSlabRows - 1) / kSlabRows),
      block_kv_(mask.shape().block.kv) {
  const auto rows = static_cast<int32_t>(mask.shape().block.q);
  const auto panels = static_cast<int32_t>((block_kv_ + kPad - 1) / kPad);
  for (int64_t tile = 0; tile < mask.data().num_tiles(); ++tile) {
    const TileBits bits(mask.data(), tile);
    for (int32_t begin = 0; begin < rows; begin += kSlabRows) {
      const int32_t end = std::min(begin + kSlabRows, rows);
      Slab& slab = slabs_.emplace_back();
      for (int32_t panel = 0; panel < panels; ++panel) {
        append(bits.hull_of_panel(panel, begin, end, row_step), slab.by_columns);
      }
      for (int32_t row = begin; row < end; row += row_step) {
        append(rows_of(slab.by_columns, row, std::min(row + row_step, end)), slab.by_rows);
      }
    }
  }
}

SlabAreas TileAreas::at(int32_t tile, int64_t slab) const {
  const Slab& areas = slabs_[tile * slabs_per_tile_ + slab];
  return {areas.by_rows, areas.by_columns};
}

int64_t TileAreas::computed_pairs(int32_t tile, int64_t num_rows) const {
  if (tile == BlockRun::kFullTiles) return num_rows * block_kv_;
  int64_t pairs = 0;
  for (int64_t slab = 0; slab < slabs_per_tile_; ++slab) {
    for (const TileArea& area : at(tile, slab).by_columns) pairs += area.pairs();
  }
  return pairs;
}

}  // namespace tessera::flex
