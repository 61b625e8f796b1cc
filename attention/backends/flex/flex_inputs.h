// What a call of flex attention is about, for everything in this folder.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "attention/backends/flex/tile_areas.h"
#include "attention/backends/flex/tile_kernels.h"
#include "attention/block_mask/block_mask.h"

namespace tessera::flex {

inline int64_t padded(int64_t width, int64_t multiple = kPad) {
  return (width + multiple - 1) / multiple * multiple;
}

// Where the D of token t of head h begin, in elements of x.
inline int64_t row_offset(const at::Tensor& x_BTHD, int64_t b, int64_t t, int64_t h) {
  return b * x_BTHD.stride(0) + t * x_BTHD.stride(1) + h * x_BTHD.stride(2);
}

// Tensors may be of any float type up to 32 bits; undefined ones are options that are not used.
struct FlexInputs {
  at::Tensor q_BTHD{};
  at::Tensor k_BSKD{};
  at::Tensor v_BSKE{};
  at::Tensor sinks_H{};
  at::Tensor bias_BHTS{};
  at::Tensor alibi_slopes_H{};
  double scale = 1.0;
  std::optional<double> soft_cap{};
  bool bf16_products = true;  // where there are some (products.h)
};

// Blocks [begin, end) of the tokens of heads [h, h + num_heads) of a batch row.
struct HeadBlocks {
  int64_t b = 0;
  int64_t h = 0;
  int64_t num_heads = 1;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t num_blocks() const { return end - begin; }
};

// An area of the tile of a block of queries and a block of keys.
struct TilePart {
  int64_t b = 0;
  int64_t h = 0;
  int64_t q_block = 0;
  int64_t kv_block = 0;
  TileArea area{};
  int32_t tile = BlockRun::kFullTiles;
};

// Up to kSlabRows rows of a tile, from a multiple of it on, and what of them is computed.
struct TileSlab {
  TilePart tile{};  // of no area
  SlabAreas areas{};

  // Calls visit(part) for the areas of one of the two cuts.
  template <typename Visit>
  void by_rows(Visit visit) const {
    visit_parts(areas.by_rows, visit);
  }
  template <typename Visit>
  void by_columns(Visit visit) const {
    visit_parts(areas.by_columns, visit);
  }

 private:
  template <typename Visit>
  void visit_parts(std::span<const TileArea> cut, Visit& visit) const {
    TilePart part = tile;
    for (const TileArea& area : cut) {
      part.area = area;
      visit(std::as_const(part));
    }
  }
};

}  // namespace tessera::flex
