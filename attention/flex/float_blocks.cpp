#include "attention/flex/float_blocks.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "attention/flex/for_each_block.h"

namespace tessera::flex {

namespace {

// to = panels of [width, tokens]: factor * from[token, d], zero beyond the tokens there are. By way
// of small squares: tokens are often a multiple of 4 kB apart, where a cache holds a few lines
// only.
void copy_columns(const float* from, ptrdiff_t token_stride, int64_t num_tokens, int64_t width,
                  float factor, float* to, int64_t to_width) {
  float square[kPad][kPad] = {};
  for (int64_t first = 0; first < to_width; first += kPad) {
    const int64_t count = std::clamp<int64_t>(num_tokens - first, 0, kPad);
    for (int64_t j = count; j < kPad; ++j) std::fill_n(square[j], kPad, 0.0F);
    for (int64_t d = 0; d < width; d += kPad) {
      const int64_t num_d = std::min<int64_t>(width - d, kPad);
      for (int64_t j = 0; j < count; ++j) {
        std::memcpy(square[j], from + (first + j) * token_stride + d, num_d * sizeof(float));
      }
      for (int64_t i = 0; i < num_d; ++i, to += kPad) {
        for (int64_t j = 0; j < kPad; ++j) to[j] = factor * square[j][i];
      }
    }
  }
}

}  // namespace

at::Tensor as_float_rows(const at::Tensor& x_BTHD) {
  const at::Tensor x = x_BTHD.to(at::kFloat);
  return x.stride(3) == 1 ? x : x.contiguous();
}

const float* row_of(const at::Tensor& x_BTHD, int64_t b, int64_t t, int64_t h) {
  return x_BTHD.const_data_ptr<float>() + b * x_BTHD.stride(0) + t * x_BTHD.stride(1) +
         h * x_BTHD.stride(2);
}

FloatBlocks::FloatBlocks(const at::Tensor& x_BTHD, int64_t block_size, const Layout& layout)
    : heads_(x_BTHD.size(2)),
      num_blocks_((x_BTHD.size(1) + block_size - 1) / block_size),
      layout_(layout) {
  owner_ = at::empty({x_BTHD.size(0) * heads_ * num_blocks_ * layout.block}, at::kFloat);
  data_ = owner_.mutable_data_ptr<float>();
}

// Rows lie an odd number of cache lines apart: at some power of two, those that a product reads
// over and over at the same columns would all want the same few lines of the cache.
FloatBlocks FloatBlocks::rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const at::Tensor from = as_float_rows(x_BTHD);
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(dim);
  const ptrdiff_t row = (width / kPad | 1) * kPad;
  const int64_t height = std::min(block_size, x_BTHD.size(1));
  FloatBlocks blocks(x_BTHD, block_size,
                     {.width = width, .panel = kPad, .row = row, .block = height * row});
  for_each_block(x_BTHD, block_size,
                 [&](int64_t b, int64_t h, int64_t block, int64_t token, int64_t num_tokens) {
                   float* to = blocks.block_at(b, h, block);
                   for (int64_t t = token; t < token + num_tokens; ++t, to += row) {
                     std::memcpy(to, row_of(from, b, t, h), dim * sizeof(float));
                     std::fill(to + dim, to + width, 0.0F);
                   }
                 });
  return blocks;
}

FloatBlocks FloatBlocks::columns(const at::Tensor& x_BTHD, int64_t block_size, double factor) {
  const at::Tensor from = as_float_rows(x_BTHD);
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(std::min(block_size, x_BTHD.size(1)));
  FloatBlocks blocks(x_BTHD, block_size,
                     {.width = width, .panel = dim * kPad, .row = kPad, .block = dim * width});
  for_each_block(x_BTHD, block_size,
                 [&](int64_t b, int64_t h, int64_t block, int64_t token, int64_t num_tokens) {
                   copy_columns(row_of(from, b, token, h), from.stride(1), num_tokens, dim,
                                static_cast<float>(factor), blocks.block_at(b, h, block), width);
                 });
  return blocks;
}

}  // namespace tessera::flex
