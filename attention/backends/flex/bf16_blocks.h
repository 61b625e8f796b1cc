// Tensors as products of bfloat16 read them: blocks of tokens, copied into the operand's layout
// (Bf16Rows, Bf16Pairs), with zeros wherever a product reads beyond what there is.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/tile_kernels.h"
#include "attention/backends/flex/token_blocks.h"

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

  void load(const HeadBlocks& blocks) { blocks_.load(blocks); }

  // From token `token` of a loaded block on: a multiple of kPad, for transposed_rows of kBf16Depth.
  Bf16Rows rows_at(int64_t h, int64_t block, int64_t token) const {
    return {blocks_.at(h, block) + token * layout_.token, layout_.height};
  }
  Bf16Pairs pairs_at(int64_t h, int64_t block, int64_t token) const {
    return {blocks_.at(h, block) + token * layout_.token, layout_.height};
  }

 private:
  // Strides, in elements.
  struct Layout {
    int64_t token;   // from a token of a block to the next, in steps of kPad tokens
    int64_t height;  // from a row to the next (rows), from a panel to the next (pairs)
  };
  Bf16Blocks(TokenBlocks<uint16_t> blocks, const Layout& layout)
      : blocks_(std::move(blocks)), layout_(layout) {}

  TokenBlocks<uint16_t> blocks_;
  Layout layout_;
};

}  // namespace tessera::flex
