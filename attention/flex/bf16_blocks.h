// Tensors as products of bfloat16 read them: blocks of tokens, each block of each head copied into
// the operand's layout (Bf16Rows, Bf16Pairs), with zeros wherever a product reads beyond what there
// is.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/flex/flex_inputs.h"
#include "attention/flex/tile_kernels.h"

namespace tessera::flex {

class Bf16Blocks {
 public:
  // x_BTHD: bfloat16. Left sides [tokens, D] and [D, tokens].
  static Bf16Blocks rows(const at::Tensor& x_BTHD, int64_t block_size);
  static Bf16Blocks transposed_rows(const at::Tensor& x_BTHD, int64_t block_size);

  // Right sides [tokens, D] and [D, tokens]. pairs: kPad rows of zeros more than a multiple of
  // kBf16Depth, so that products over any multiple of kPad tokens may be rounded up.
  static Bf16Blocks pairs(const at::Tensor& x_BTHD, int64_t block_size);
  static Bf16Blocks transposed_pairs(const at::Tensor& x_BTHD, int64_t block_size);

  // From token `token` of a block on: a multiple of kPad, for transposed_rows of kBf16Depth.
  Bf16Rows rows_at(int64_t b, int64_t h, int64_t block, int64_t token) const {
    return {data_ + block_offset(b, h, block) + token * token_stride_, height_stride_};
  }
  Bf16Pairs pairs_at(int64_t b, int64_t h, int64_t block, int64_t token) const {
    return {data_ + block_offset(b, h, block) + token * token_stride_, height_stride_};
  }

 private:
  // token_stride: elements from a token of a block to the next, in steps of kPad tokens.
  // height_stride: from a row to the next (rows), from a panel to the next (pairs).
  Bf16Blocks(const at::Tensor& x_BTHD, int64_t block_size, int64_t block_elements,
             int64_t token_stride, int64_t height_stride);

  int64_t block_offset(int64_t b, int64_t h, int64_t block) const {
    return ((b * heads_ + h) * num_blocks_ + block) * block_elements_;
  }

  // Fills each block by copy(first token's numbers, stride from token to token, tokens, to).
  template <typename Copy>
  void fill(const at::Tensor& x_BTHD, int64_t block_size, Copy copy);

  at::Tensor owner_;
  uint16_t* data_ = nullptr;
  int64_t heads_;
  int64_t num_blocks_;
  int64_t block_elements_;
  int64_t token_stride_;
  int64_t height_stride_;
};

}  // namespace tessera::flex
