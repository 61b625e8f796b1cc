// Tensors as the tile kernels read them: float32 rows per token and head, and transposed key
// blocks.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/flex/flex_inputs.h"
#include "attention/flex/tile_kernels.h"

namespace tessera::flex {

// Rows of a [B, T, H, D] tensor, of width padded(D): the tensor's own memory when that is float32
// and needs no padding, otherwise a copy, padded with zeros.
class FloatRows {
 public:
  explicit FloatRows(const at::Tensor& x_BTHD);

  const float* at(int64_t b, int64_t t, int64_t h) const {
    return data_ + b * batch_ + t * token_ + h * head_;
  }
  ptrdiff_t token_stride() const { return token_; }
  int64_t width() const { return width_; }

 private:
  at::Tensor owner_;
  const float* data_;
  ptrdiff_t batch_;
  ptrdiff_t token_;
  ptrdiff_t head_;
  int64_t width_;
};

// A [B, T, H, D] tensor cut into blocks of tokens, each block of each head copied into panels (see
// PanelView): what products read as their right-hand side.
class PanelBlocks {
 public:
  // Blocks as matrices [tokens of a block, padded(D)].
  static PanelBlocks rows(const at::Tensor& x_BTHD, int64_t block_size);

  // Blocks as matrices [D, padded tokens of a block], times a factor; tokens that do not exist are
  // zero.
  static PanelBlocks columns(const at::Tensor& x_BTHD, int64_t block_size, double factor);

  // From row `row` and panel-aligned column `column` of a block on.
  PanelView at(int64_t b, int64_t h, int64_t block, int64_t row, int64_t column) const {
    const float* first = data_ + ((b * heads_ + h) * num_blocks_ + block) * block_stride_;
    return {first + column / kPad * panel_ + row * kPad, panel_};
  }
  int64_t width() const { return width_; }

 private:
  PanelBlocks(const at::Tensor& x_BTHD, int64_t block_size, int64_t height, int64_t width);

  at::Tensor owner_;
  float* data_ = nullptr;
  int64_t heads_;
  int64_t num_blocks_;
  ptrdiff_t panel_;  // height * kPad
  int64_t width_;
  int64_t block_stride_;
};

}  // namespace tessera::flex
