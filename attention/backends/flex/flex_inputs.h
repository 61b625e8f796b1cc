// The inputs of a call of flex attention, and the words in which the rest of the folder speaks of
// pieces of it: blocks of heads, pieces and slabs of tiles. Internal to attention/backends/flex/.
//
// Nothing here checks its arguments; AttentionOp has checked a call's inputs.
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

// width rounded up to a multiple of `multiple`.
inline int64_t padded(int64_t width, int64_t multiple = kPad) {
  return (width + multiple - 1) / multiple * multiple;
}

// Where the D numbers of token t and head h of batch row b begin, in elements of x.
inline int64_t row_offset(const at::Tensor& x_BTHD, int64_t b, int64_t t, int64_t h) {
  return b * x_BTHD.stride(0) + t * x_BTHD.stride(1) + h * x_BTHD.stride(2);
}

// The tensors and settings of a call. q, k and v are float32, bfloat16 or float16; undefined
// tensors are options that are not used.
struct FlexInputs {
  at::Tensor q_BTHD{};
  at::Tensor k_BSKD{};
  at::Tensor v_BSKE{};
  at::Tensor sinks_H{};
  at::Tensor bias_BHTS{};
  at::Tensor alibi_slopes_H{};
  double scale = 1.0;
  std::optional<double> soft_cap{};
  bool bf16_products = true;  // false refuses them; see multiplies_in_bf16 in products.h
};

// Blocks [begin, end) of the tokens of heads [h, h + num_heads) of batch row b.
struct HeadBlocks {
  int64_t b = 0;
  int64_t h = 0;
  int64_t num_heads = 1;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t num_blocks() const { return end - begin; }
};

// An area of the tile of a block of queries and a block of keys.
struct TilePiece {
  int64_t b = 0;
  int64_t h = 0;  // query head
  int64_t q_block = 0;
  int64_t kv_block = 0;
  TileArea area{};
  int32_t tile = BlockRun::kFullTiles;  // index of the tile's bits, as in BlockRun
};

// Up to kSlabRows rows of a tile, which begin at a multiple of kSlabRows, and the areas of them
// that are computed.
struct TileSlab {
  TilePiece tile{};  // the tile; its area is not set
  SlabAreas areas{};

  // Call visit(piece) for each area of one of the two cuts, ascending.
  template <typename Visit>
  void by_rows(Visit visit) const {
    visit_pieces(areas.by_rows, visit);
  }
  template <typename Visit>
  void by_columns(Visit visit) const {
    visit_pieces(areas.by_columns, visit);
  }

 private:
  template <typename Visit>
  void visit_pieces(std::span<const TileArea> cut, Visit& visit) const {
    TilePiece piece = tile;
    for (const TileArea& area : cut) {
      piece.area = area;
      visit(std::as_const(piece));
    }
  }
};

}  // namespace tessera::flex
