#include "attention/flex/float_rows.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "attention/flex/for_each_block.h"

namespace tessera::flex {

namespace {

at::Tensor as_padded_float(const at::Tensor& x_BTHD) {
  const int64_t missing = padded(x_BTHD.size(3)) - x_BTHD.size(3);
  const at::Tensor x = x_BTHD.to(at::kFloat);
  if (missing > 0) return at::constant_pad_nd(x, {0, missing});
  return x.stride(3) == 1 ? x : x.contiguous();
}

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

// to = panels of [tokens, width].
void copy_rows(const float* from, ptrdiff_t token_stride, int64_t num_tokens, int64_t width,
               float* to, ptrdiff_t panel) {
  for (int64_t t = 0; t < num_tokens; ++t, from += token_stride) {
    for (int64_t d = 0; d < width; d += kPad) {
      std::memcpy(to + d / kPad * panel + t * kPad, from + d, kPad * sizeof(float));
    }
  }
}

}  // namespace

FloatRows::FloatRows(const at::Tensor& x_BTHD)
    : owner_(as_padded_float(x_BTHD)),
      data_(owner_.const_data_ptr<float>()),
      batch_(owner_.stride(0)),
      token_(owner_.stride(1)),
      head_(owner_.stride(2)),
      width_(owner_.size(3)) {}

PanelBlocks::PanelBlocks(const at::Tensor& x_BTHD, int64_t block_size, int64_t height,
                         int64_t width)
    : heads_(x_BTHD.size(2)),
      num_blocks_((x_BTHD.size(1) + block_size - 1) / block_size),
      panel_(height * kPad),
      width_(width),
      block_stride_(height * width) {
  owner_ = at::empty({x_BTHD.size(0) * heads_ * num_blocks_ * block_stride_}, at::kFloat);
  data_ = owner_.mutable_data_ptr<float>();
}

PanelBlocks PanelBlocks::rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const FloatRows from(x_BTHD);
  PanelBlocks panels(x_BTHD, block_size, std::min(block_size, x_BTHD.size(1)), from.width());
  for_each_block(x_BTHD, block_size,
                 [&](int64_t b, int64_t h, int64_t block, int64_t token, int64_t num_tokens) {
                   auto* to = const_cast<float*>(panels.at(b, h, block, 0, 0).data);
                   copy_rows(from.at(b, token, h), from.token_stride(), num_tokens, from.width(),
                             to, panels.panel_);
                 });
  return panels;
}

PanelBlocks PanelBlocks::columns(const at::Tensor& x_BTHD, int64_t block_size, double factor) {
  const FloatRows from(x_BTHD);
  const int64_t dim = x_BTHD.size(3);
  PanelBlocks panels(x_BTHD, block_size, dim, padded(std::min(block_size, x_BTHD.size(1))));
  for_each_block(x_BTHD, block_size,
                 [&](int64_t b, int64_t h, int64_t block, int64_t token, int64_t num_tokens) {
                   auto* to = const_cast<float*>(panels.at(b, h, block, 0, 0).data);
                   copy_columns(from.at(b, token, h), from.token_stride(), num_tokens, dim,
                                static_cast<float>(factor), to, panels.width_);
                 });
  return panels;
}

}  // namespace tessera::flex
