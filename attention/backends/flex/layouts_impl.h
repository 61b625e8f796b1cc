// The kernels that bring operands into their layouts (copy_rows, transpose, round_to_rows and
// round_to_pairs of TileKernels) for one instruction set; see tile_kernels_impl.h for how this file
// is compiled. Internal to attention/backends/flex/.
#pragma once

#include "attention/backends/flex/vectors_impl.h"

namespace tessera::flex::FLEX_NAMESPACE {

namespace {

// Rows are often 4 kB apart, where the processor does not see by itself which comes next.
constexpr int kRowsAhead = 8;

template <bool kToWrite>
inline void fetch_row(const float* row, int cols) {
  for (int j = 0; j < cols; j += kPad) __builtin_prefetch(row + j, kToWrite);
}

void copy_rows(const float* from, ptrdiff_t from_row, int rows, int cols, float factor, float* to,
               ptrdiff_t to_row) {
  for (int i = 0; i < rows; ++i, from += from_row, to += to_row) {
    fetch_row<false>(from + kRowsAhead * from_row, cols);
    fetch_row<true>(to + kRowsAhead * to_row, cols);
    int j = 0;
    for (; j + kLanes <= cols; j += kLanes) store(to + j, load(from + j) * factor);
    for (; j < cols; ++j) to[j] = from[j] * factor;
  }
}

template <int... kLane>
struct Lanes {};
#if FLEX_LANES == 4
using AllLanes = Lanes<0, 1, 2, 3>;
#elif FLEX_LANES == 8
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#endif

// Swaps the upper right and the lower left of every 2 x 2 square of kStep x kStep blocks.
template <int kStep, int... kLane>
inline void swap_blocks(Floats* rows, Lanes<kLane...> /*lanes*/) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const Floats upper = rows[i];
    const Floats lower = rows[i + kStep];
    rows[i] = __builtin_shufflevector(upper, lower,
                                      ((kLane & kStep) != 0 ? kLanes + kLane - kStep : kLane)...);
    rows[i + kStep] = __builtin_shufflevector(
        upper, lower, ((kLane & kStep) != 0 ? kLanes + kLane : kLane + kStep)...);
  }
}

// to[j, i] = factor * from[i, j], i and j below kLanes; rows of `to` are kPad apart.
inline void transpose_square(const float* from, ptrdiff_t from_row, float factor, float* to) {
  Floats rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * from_row) * factor;
  if constexpr (kLanes > 8) swap_blocks<8>(rows, AllLanes{});
  if constexpr (kLanes > 4) swap_blocks<4>(rows, AllLanes{});
  swap_blocks<2>(rows, AllLanes{});
  swap_blocks<1>(rows, AllLanes{});
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(to + i * kPad, rows[i]);
}

void transpose(const float* from, ptrdiff_t from_row, int rows, int cols, float factor, float* to) {
  const int square_cols = rows == kPad ? cols / kLanes * kLanes : 0;
  for (int i = 0; i < kPad && square_cols > 0; i += kLanes) {
    for (int row = i; row < i + kLanes; ++row) {
      fetch_row<false>(from + (row + kRowsAhead) * from_row, square_cols);
    }
    for (int j = 0; j < square_cols; j += kLanes) {
      transpose_square(from + i * from_row + j, from_row, factor, to + ptrdiff_t{j} * kPad + i);
    }
  }
  for (int j = square_cols; j < cols; ++j) {
    float* column = to + ptrdiff_t{j} * kPad;
    for (int i = 0; i < rows; ++i) column[i] = factor * from[i * from_row + j];
    for (int i = rows; i < kPad; ++i) column[i] = 0;
  }
}

typedef uint32_t Words __attribute__((vector_size(FLEX_LANES * sizeof(uint32_t))));

// x rounded to bfloat16, to nearest even, with the bits in the upper halves of the words.
inline Words rounded(Floats x) {
  Words bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const Words up = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000U;
  const Words nan = Words{} + 0x7fc00000U;  // others could round to a number
  return x == x ? up : nan;
}

void round_to_rows(ScoreTile x, uint16_t* to, ptrdiff_t to_row) {
  typedef uint16_t Halves __attribute__((vector_size(FLEX_LANES * sizeof(uint16_t))));
  const int num_rows = (x.rows + kPad - 1) / kPad * kPad;
  const int num_cols = (x.cols + kBf16Depth - 1) / kBf16Depth * kBf16Depth;
  for (int i = 0; i < num_rows; ++i, to += to_row) {
    for (int j = 0; j < num_cols; j += kLanes) {
      Halves halves{};
      if (i < x.rows && j < x.cols) {
        const Floats from = load(x.scores + i * x.ld + j);
        halves = __builtin_convertvector(rounded(from) >> 16, Halves);
      }
      __builtin_memcpy(to + j, &halves, sizeof halves);
    }
  }
}

void round_to_pairs(ScoreTile x, uint16_t* to, ptrdiff_t to_panel) {
  const int num_rows = (x.rows + kBf16Depth - 1) / kBf16Depth * kBf16Depth;
  for (int i = 0; i < num_rows; i += 2, to += ptrdiff_t{2} * kPad) {
    for (int j = 0; j < x.cols; j += kLanes) {
      const float* from = x.scores + i * x.ld + j;
      Words pairs{};
      if (i < x.rows) pairs = rounded(load(from)) >> 16;
      if (i + 1 < x.rows) pairs |= rounded(load(from + x.ld));
      uint16_t* panel = to + j / kPad * to_panel + ptrdiff_t{2} * (j % kPad);
      __builtin_memcpy(panel, &pairs, sizeof pairs);
    }
  }
}

}  // namespace

}  // namespace tessera::flex::FLEX_NAMESPACE
