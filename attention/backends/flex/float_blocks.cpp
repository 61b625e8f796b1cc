#include "attention/backends/flex/float_blocks.h"

#include <algorithm>

namespace tessera::flex {

// Rows lie an odd number of cache lines apart: at some power of two, those that a product reads
// over and over at the same columns would all want the same few lines of the cache.
FloatBlocks FloatBlocks::rows(const at::Tensor& x_BTHD, int64_t block_size,
                              const TileKernels& kernels) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(dim);
  const ptrdiff_t row = (width / kPad | 1) * kPad;
  const auto copy = [=, &kernels](const float* from, ptrdiff_t stride, int64_t num_tokens,
                                  float* to) {
    kernels.copy_rows(from, stride, static_cast<int>(num_tokens), static_cast<int>(dim), 1.0F, to,
                      row);
  };
  const int64_t height = std::min(block_size, x_BTHD.size(1));
  return {TokenBlocks<float>(x_BTHD, block_size, height * row, copy),
          {.width = width, .panel = kPad, .row = row}};
}

FloatBlocks FloatBlocks::columns(const at::Tensor& x_BTHD, int64_t block_size, double factor,
                                 const TileKernels& kernels) {
  const int64_t dim = x_BTHD.size(3);
  const int64_t width = padded(std::min(block_size, x_BTHD.size(1)));
  const auto scale = static_cast<float>(factor);
  const auto copy = [=, &kernels](const float* from, ptrdiff_t stride, int64_t num_tokens,
                                  float* to) {
    for (int64_t t = 0; t < num_tokens; t += kPad) {
      const auto rows = static_cast<int>(std::min<int64_t>(num_tokens - t, kPad));
      kernels.transpose(from + t * stride, stride, rows, static_cast<int>(dim), scale,
                        to + t * dim);
    }
  };
  return {TokenBlocks<float>(x_BTHD, block_size, dim * width, copy),
          {.width = width, .panel = dim * kPad, .row = kPad}};
}

}  // namespace tessera::flex
