// Tensors as float32 products read them: a copy of each block of tokens of each head.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/flex/flex_inputs.h"
#include "attention/flex/tile_kernels.h"

namespace tessera::flex {

// In float32, each row of a head without gaps; no copy where it is already so.
at::Tensor as_float_rows(const at::Tensor& x_BTHD);

// Of a float32 tensor.
const float* row_of(const at::Tensor& x_BTHD, int64_t b, int64_t t, int64_t h);

class FloatBlocks {
 public:
  // Blocks as matrices [tokens of a block, padded(D)]; columns from D on are zero.
  static FloatBlocks rows(const at::Tensor& x_BTHD, int64_t block_size);

  // Blocks as matrices [D, padded tokens of a block], times a factor; tokens that do not exist are
  // zero.
  static FloatBlocks columns(const at::Tensor& x_BTHD, int64_t block_size, double factor);

  // From row `row` and panel-aligned column `column` of a block on, as the right side of a product
  // and as the left one (of `rows` only).
  PanelView panels_at(int64_t b, int64_t h, int64_t block, int64_t row, int64_t column) const {
    return {block_at(b, h, block) + column / kPad * layout_.panel + row * layout_.row,
            layout_.panel, layout_.row};
  }
  MatrixView rows_at(int64_t b, int64_t h, int64_t block, int64_t row) const {
    return {block_at(b, h, block) + row * layout_.row, layout_.row, 1};
  }
  int64_t width() const { return layout_.width; }

 private:
  struct Layout {
    int64_t width;
    ptrdiff_t panel;  // strides
    ptrdiff_t row;
    ptrdiff_t block;
  };
  FloatBlocks(const at::Tensor& x_BTHD, int64_t block_size, const Layout& layout);

  float* block_at(int64_t b, int64_t h, int64_t block) const {
    return data_ + ((b * heads_ + h) * num_blocks_ + block) * layout_.block;
  }

  at::Tensor owner_;
  float* data_;
  int64_t heads_;
  int64_t num_blocks_;
  Layout layout_;
};

}  // namespace tessera::flex
