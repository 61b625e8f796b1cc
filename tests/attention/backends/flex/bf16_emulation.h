// Kernels that multiply bfloat16 on any processor, in the layouts of
// attention/backends/flex/tile_kernels.h. They do element by element what the tile registers of AMX
// do, and read every element that a product may read, so that missing zeros show.
// Internal to tests/attention/backends/flex/.
#pragma once

#include <algorithm>

#include "attention/backends/flex/tile_kernels.h"

namespace tessera::testing {

// The number that the bits of a bfloat16 mean.
inline float widened(uint16_t bits) {
  const uint32_t word = uint32_t{bits} << 16;
  float x = 0;
  __builtin_memcpy(&x, &word, sizeof x);
  return x;
}

// Bf16Kernels::multiply by its definition.
inline void multiply_bf16(int m, int n, int k, flex::Bf16Rows a, flex::Bf16Pairs b, float* c,
                          ptrdiff_t c_row, bool accumulate) {
  constexpr int kPad = flex::kPad;
  for (int i = 0; i < (m + kPad - 1) / kPad * kPad; ++i, a.data += a.row, c += c_row) {
    if (!accumulate) std::fill_n(c, n, 0.0F);
    for (int j = 0; j < n; j += kPad) {
      const uint16_t* panel = b.data + j / kPad * b.panel;
      for (int p = 0; p < k; ++p) {
        const float x = widened(a.data[p]);
        const uint16_t* row = panel + p / 2 * 2 * kPad + p % 2;
        for (int column = 0; column < kPad; ++column) c[j + column] += x * widened(row[2 * column]);
      }
    }
  }
}

// The fastest float32 kernels with emulated products of bfloat16.
inline const flex::TileKernels& emulated_bf16_kernels() {
  static const flex::Bf16Kernels bf16{.begin = [](unsigned char*) {},
                                      .end = [](const unsigned char*) {},
                                      .multiply = multiply_bf16};
  static const flex::TileKernels kernels = [] {
    flex::TileKernels made = flex::tile_kernels();
    made.name = "emulated_bf16";
    made.bf16 = &bf16;
    return made;
  }();
  return kernels;
}

}  // namespace tessera::testing
