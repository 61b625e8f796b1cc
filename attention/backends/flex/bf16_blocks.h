// Bf16Blocks: a tensor as products of bfloat16 read it, that is blocks of tokens, copied into the
// layout of an operand (Bf16Rows, Bf16Pairs of tile_kernels.h), with zeros wherever a product reads
// beyond the tensor. Internal to attention/backends/flex/.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/tile_kernels.h"
#include "attention/backends/flex/token_blocks.h"

namespace tessera::flex {

class Bf16Blocks {
 public:
  // Left sides of products: a block is [tokens, D] (rows) or [D, tokens] (transposed_rows). x_BTHD,
  // here and below: bfloat16, the D numbers of a head side by side.
  static Bf16Blocks rows(const at::Tensor& x_BTHD, int64_t block_size);
  static Bf16Blocks transposed_rows(const at::Tensor& x_BTHD, int64_t block_size);

  // Right sides of products: a block is [tokens, D] (pairs) or [D, tokens] (transposed_pairs). A
  // block of pairs has kPad rows of zeros more than a multiple of kBf16Depth, so that products over
  // any multiple of kPad tokens may be rounded up.
  static Bf16Blocks pairs(const at::Tensor& x_BTHD, int64_t block_size);
  static Bf16Blocks transposed_pairs(const at::Tensor& x_BTHD, int64_t block_size);

  void load(const HeadBlocks& blocks) { blocks_.load(blocks); }

  // The operand that begins at token `token` of a loaded block. `token` is a multiple of kPad, and
  // for transposed_rows of kBf16Depth. rows_at is for the left sides, pairs_at for the right ones.
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
