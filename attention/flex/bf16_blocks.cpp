#include "attention/flex/bf16_blocks.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "attention/flex/for_each_block.h"

namespace tessera::flex {

namespace {

// In squares, so that the few lines of memory that one reads stay in the cache: tokens are often a
// multiple of 2 kB apart.
template <typename Visit>
void for_each_square(int64_t num_tokens, int64_t dim, Visit visit) {
  for (int64_t t = 0; t < num_tokens; t += kPad) {
    for (int64_t d = 0; d < dim; d += kPad) {
      visit(TokenRange{t, std::min<int64_t>(t + kPad, num_tokens)},
            TokenRange{d, std::min<int64_t>(d + kPad, dim)});
    }
  }
}

}  // namespace

Bf16Blocks::Bf16Blocks(const at::Tensor& x_BTHD, int64_t block_size, int64_t block_elements,
                       int64_t token_stride, int64_t height_stride)
    : heads_(x_BTHD.size(2)),
      num_blocks_((x_BTHD.size(1) + block_size - 1) / block_size),
      block_elements_(block_elements),
      token_stride_(token_stride),
      height_stride_(height_stride) {
  owner_ = at::zeros({x_BTHD.size(0) * heads_ * num_blocks_ * block_elements_}, at::kBFloat16);
  data_ = reinterpret_cast<uint16_t*>(owner_.mutable_data_ptr<at::BFloat16>());
}

template <typename Copy>
void Bf16Blocks::fill(const at::Tensor& x_BTHD, int64_t block_size, Copy copy) {
  const at::Tensor x = x_BTHD.stride(3) == 1 ? x_BTHD : x_BTHD.contiguous();
  const auto* from = reinterpret_cast<const uint16_t*>(x.const_data_ptr<at::BFloat16>());
  for_each_block(x, block_size,
                 [&](int64_t b, int64_t h, int64_t block, int64_t token, int64_t num_tokens) {
                   copy(from + b * x.stride(0) + token * x.stride(1) + h * x.stride(2), x.stride(1),
                        num_tokens, data_ + block_offset(b, h, block));
                 });
}

Bf16Blocks Bf16Blocks::rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(dim, kBf16Depth);
  const int64_t tokens = padded(std::min(block_size, x_BTHD.size(1)));
  Bf16Blocks blocks(x_BTHD, block_size, tokens * width, width, width);
  blocks.fill(x_BTHD, block_size,
              [&](const uint16_t* from, int64_t stride, int64_t num_tokens, uint16_t* to) {
                for (int64_t t = 0; t < num_tokens; ++t) {
                  std::memcpy(to + t * width, from + t * stride, dim * sizeof *to);
                }
              });
  return blocks;
}

Bf16Blocks Bf16Blocks::transposed_rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(std::min(block_size, x_BTHD.size(1)), kBf16Depth);
  Bf16Blocks blocks(x_BTHD, block_size, padded(dim) * width, 1, width);
  blocks.fill(x_BTHD, block_size,
              [&](const uint16_t* from, int64_t stride, int64_t num_tokens, uint16_t* to) {
                for_each_square(num_tokens, dim, [&](TokenRange tokens, TokenRange dims) {
                  for (int64_t d = dims.begin; d < dims.end; ++d) {
                    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
                      to[d * width + t] = from[t * stride + d];
                    }
                  }
                });
              });
  return blocks;
}

// Of a panel: two tokens side by side for each of kPad numbers.
Bf16Blocks Bf16Blocks::pairs(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t tokens = padded(std::min(block_size, x_BTHD.size(1)), kBf16Depth) + kPad;
  const int64_t panel = tokens * kPad;
  Bf16Blocks blocks(x_BTHD, block_size, padded(dim) * tokens, kPad, panel);
  blocks.fill(x_BTHD, block_size,
              [&](const uint16_t* from, int64_t stride, int64_t num_tokens, uint16_t* to) {
                for (int64_t t = 0; t < num_tokens; ++t, from += stride) {
                  uint16_t* row = to + t / 2 * 2 * kPad + t % 2;
                  for (int64_t d = 0; d < dim; d += kPad, row += panel) {
                    const int64_t num_d = std::min<int64_t>(dim - d, kPad);
                    for (int64_t i = 0; i < num_d; ++i) row[2 * i] = from[d + i];
                  }
                }
              });
  return blocks;
}

// Of a panel: two numbers side by side for each of kPad tokens.
Bf16Blocks Bf16Blocks::transposed_pairs(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t height = padded(dim, kBf16Depth);
  const int64_t tokens = padded(std::min(block_size, x_BTHD.size(1)));
  Bf16Blocks blocks(x_BTHD, block_size, tokens * height, height, height * kPad);
  blocks.fill(x_BTHD, block_size,
              [&](const uint16_t* from, int64_t stride, int64_t num_tokens, uint16_t* to) {
                for_each_square(num_tokens, dim, [&](TokenRange tokens, TokenRange dims) {
                  uint16_t* panel = to + tokens.begin * height;
                  for (int64_t d = dims.begin; d < dims.end; ++d) {
                    uint16_t* row = panel + d / 2 * 2 * kPad + d % 2;
                    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
                      row[2 * (t - tokens.begin)] = from[t * stride + d];
                    }
                  }
                });
              });
  return blocks;
}

}  // namespace tessera::flex
