// TokenBlocks: blocks of tokens of some heads, copied into the layout that a product reads.
// Internal to attention/backends/flex/. FloatBlocks and Bf16Blocks are made of it.
//
// Each thread has its own and copies what its next unit of work needs. That takes less memory than
// copies of whole tensors, and the copies are warm in a cache and on pages that the process has
// already.
//
// Shape legend: B batch, T tokens, H heads, D width of a head.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "attention/backends/flex/flex_inputs.h"

namespace tessera::flex {

template <typename Element>
class TokenBlocks {
 public:
  // Copies tokens, which are `token_stride` elements apart, to a block. Elements of a block that
  // the function never writes are zero.
  using CopyBlock = std::function<void(const Element* from, ptrdiff_t token_stride,
                                       int64_t num_tokens, Element* to)>;

  // x_BTHD: of the type Element, the D numbers of a head side by side. block_size: tokens of a
  // block. block_elements: the size of a copied block.
  TokenBlocks(const at::Tensor& x_BTHD, int64_t block_size, int64_t block_elements, CopyBlock copy)
      : x_BTHD_(x_BTHD),
        block_size_(block_size),
        block_elements_(block_elements),
        copy_(std::move(copy)) {}

  // Copies blocks, in place of those that were loaded before.
  void load(const HeadBlocks& blocks) {
    loaded_ = blocks;
    reserve(blocks.num_heads * blocks.num_blocks() * block_elements_);
    for (int64_t h = blocks.h; h < blocks.h + blocks.num_heads; ++h) {
      for (int64_t block = blocks.begin; block < blocks.end; ++block) load_block(h, block);
    }
  }

  // The copy of a block, which must be loaded. Valid until the next load.
  const Element* at(int64_t h, int64_t block) const { return slot(h, block); }

 private:
  void reserve(int64_t num_elements) {
    const auto num_bytes = num_elements * static_cast<int64_t>(sizeof(Element));
    if (owner_.defined() && owner_.numel() >= num_bytes) return;
    owner_ = at::zeros({num_bytes}, at::kByte);
    data_ = static_cast<Element*>(owner_.mutable_data_ptr());
  }

  Element* slot(int64_t h, int64_t block) const {
    return data_ +
           ((h - loaded_.h) * loaded_.num_blocks() + block - loaded_.begin) * block_elements_;
  }

  void load_block(int64_t h, int64_t block) {
    Element* to = slot(h, block);
    const int64_t token = block * block_size_;
    const int64_t num_tokens = std::min(block_size_, x_BTHD_.size(1) - token);
    if (num_tokens < block_size_) std::fill_n(to, block_elements_, Element{});
    const auto* x = static_cast<const Element*>(x_BTHD_.const_data_ptr());
    copy_(x + row_offset(x_BTHD_, loaded_.b, token, h), x_BTHD_.stride(1), num_tokens, to);
  }

  at::Tensor x_BTHD_;
  int64_t block_size_;
  int64_t block_elements_;
  CopyBlock copy_;
  HeadBlocks loaded_{};
  at::Tensor owner_;
  Element* data_ = nullptr;
};

}  // namespace tessera::flex
