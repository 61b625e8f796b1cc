// TileSweep: cuts the bands of a rule into stretches of tiles, one row of tiles after another.
// Internal to attention/block_mask/.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_bands.h"

namespace tessera {

// Tiles [begin, end) of one row of tiles: wholly allowed, or touched by the same bands.
struct TileStretch {
  int32_t begin = 0;
  int32_t end = 0;
  bool full = false;
  c10::ArrayRef<const Band*> bands{};  // the bands that touch it; valid until the next row
};

class TileSweep {
 public:
  // Bands of one batch row and head, in any order; they may overlap.
  TileSweep(const MaskShape& shape, std::vector<Band> bands);

  // The stretches of a row of tiles, ascending and disjoint; tiles in no stretch are empty. Rows
  // must be asked for in ascending order. The bands of a stretch are cut to the row's queries. The
  // result is valid until the next call.
  const std::vector<TileStretch>& row(int64_t q_block);

  // In-range queries of the row that was asked for last.
  TokenRange queries() const { return queries_; }

 private:
  // Tiles wholly or partly covered by one band.
  struct Span {
    int32_t begin = 0;
    int32_t end = 0;
    bool full = false;
    const Band* band = nullptr;
  };

  static constexpr size_t kMaxSpans = 3;  // spans of one band in one row of tiles

  void cut_bands();
  int cut_band(const Band& band, Span* spans) const;
  void copy_spans();
  void merge_spans();

  MaskShape shape_;
  std::vector<Band> bands_;
  size_t next_band_ = 0;
  std::vector<const Band*> active_;  // bands that may meet the row

  // State of the current row of tiles.
  TokenRange queries_;
  std::vector<Band> row_bands_;
  std::vector<Span> spans_;
  std::vector<Span> open_;
  std::vector<const Band*> stretch_bands_;  // the bands of all stretches, one after another
  std::vector<TileStretch> stretches_;
};

}  // namespace tessera
