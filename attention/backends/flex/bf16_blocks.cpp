#include "attention/backends/flex/bf16_blocks.h"

#include <algorithm>
#include <cstring>

namespace tessera::flex {

namespace {

// Calls visit(tokens, dims) for squares of kPad tokens and kPad numbers, so that the few lines of
// memory that a square reads stay in the cache: tokens are often a multiple of 2 kB apart.
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

Bf16Blocks Bf16Blocks::rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(dim, kBf16Depth);
  const int64_t tokens = padded(std::min(block_size, x_BTHD.size(1)));
  const auto copy = [=](const uint16_t* from, ptrdiff_t stride, int64_t num_tokens, uint16_t* to) {
    for (int64_t t = 0; t < num_tokens; ++t) {
      std::memcpy(to + t * width, from + t * stride, dim * sizeof *to);
    }
  };
  return {TokenBlocks<uint16_t>(x_BTHD, block_size, tokens * width, copy),
          {.token = width, .height = width}};
}

Bf16Blocks Bf16Blocks::transposed_rows(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(std::min(block_size, x_BTHD.size(1)), kBf16Depth);
  const auto copy = [=](const uint16_t* from, ptrdiff_t stride, int64_t num_tokens, uint16_t* to) {
    for_each_square(num_tokens, dim, [&](TokenRange tokens, TokenRange dims) {
      for (int64_t d = dims.begin; d < dims.end; ++d) {
        for (int64_t t = tokens.begin; t < tokens.end; ++t) {
          to[d * width + t] = from[t * stride + d];
        }
      }
    });
  };
  return {TokenBlocks<uint16_t>(x_BTHD, block_size, padded(dim) * width, copy),
          {.token = 1, .height = width}};
}

// A row of a panel holds two tokens side by side for each of kPad numbers.
Bf16Blocks Bf16Blocks::pairs(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t height = padded(std::min(block_size, x_BTHD.size(1)), kBf16Depth) + kPad;
  const int64_t panel = height * kPad;
  const auto copy = [=](const uint16_t* from, ptrdiff_t stride, int64_t num_tokens, uint16_t* to) {
    for (int64_t t = 0; t < num_tokens; ++t, from += stride) {
      uint16_t* row = to + t / 2 * 2 * kPad + t % 2;
      for (int64_t d = 0; d < dim; d += kPad, row += panel) {
        const int64_t num_d = std::min<int64_t>(dim - d, kPad);
        for (int64_t i = 0; i < num_d; ++i) row[2 * i] = from[d + i];
      }
    }
  };
  return {TokenBlocks<uint16_t>(x_BTHD, block_size, padded(dim) * height, copy),
          {.token = kPad, .height = panel}};
}

// A row of a panel holds two numbers side by side for each of kPad tokens.
Bf16Blocks Bf16Blocks::transposed_pairs(const at::Tensor& x_BTHD, int64_t block_size) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t height = padded(dim, kBf16Depth);
  const int64_t tokens = padded(std::min(block_size, x_BTHD.size(1)));
  const auto copy = [=](const uint16_t* from, ptrdiff_t stride, int64_t num_tokens, uint16_t* to) {
    for_each_square(num_tokens, dim, [&](TokenRange range, TokenRange dims) {
      uint16_t* panel = to + range.begin * height;
      for (int64_t d = dims.begin; d < dims.end; ++d) {
        uint16_t* row = panel + d / 2 * 2 * kPad + d % 2;
        for (int64_t t = range.begin; t < range.end; ++t) {
          row[2 * (t - range.begin)] = from[t * stride + d];
        }
      }
    });
  };
  return {TokenBlocks<uint16_t>(x_BTHD, block_size, tokens * height, copy),
          {.token = height, .height = height * kPad}};
}

}  // namespace tessera::flex
