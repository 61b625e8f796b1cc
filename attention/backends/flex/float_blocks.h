// FloatBlocks: a tensor as float32 products read it, that is copies of blocks of tokens in the
// layout of an operand (PanelView, MatrixView of tile_kernels.h).
// Internal to attention/backends/flex/.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/tile_kernels.h"
#include "attention/backends/flex/token_blocks.h"

namespace tessera::flex {

class FloatBlocks {
 public:
  // Blocks as matrices [tokens of a block, padded(D)]; columns from D on are zero. x_BTHD, here and
  // below: float32, the D numbers of a head side by side. `kernels` must outlive the blocks.
  static FloatBlocks rows(const at::Tensor& x_BTHD, int64_t block_size, const TileKernels& kernels);

  // Blocks as matrices [D, padded tokens of a block], times `factor`; tokens that do not exist are
  // zero.
  static FloatBlocks columns(const at::Tensor& x_BTHD, int64_t block_size, double factor,
                             const TileKernels& kernels);

  void load(const HeadBlocks& blocks) { blocks_.load(blocks); }

  // The piece of a loaded block that begins at row `row` and, for panels_at, at column `column`, a
  // multiple of kPad. panels_at gives the right side of a product; rows_at gives the left side, and
  // only for blocks that rows() made.
  PanelView panels_at(int64_t h, int64_t block, int64_t row, int64_t column) const {
    return {blocks_.at(h, block) + column / kPad * layout_.panel + row * layout_.row, layout_.panel,
            layout_.row};
  }
  MatrixView rows_at(int64_t h, int64_t block, int64_t row) const {
    return {blocks_.at(h, block) + row * layout_.row, layout_.row, 1};
  }
  int64_t width() const { return layout_.width; }

 private:
  struct Layout {
    int64_t width;
    ptrdiff_t panel;  // strides
    ptrdiff_t row;
  };
  FloatBlocks(TokenBlocks<float> blocks, const Layout& layout)
      : blocks_(std::move(blocks)), layout_(layout) {}

  TokenBlocks<float> blocks_;
  Layout layout_;
};

}  // namespace tessera::flex
