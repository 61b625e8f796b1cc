// TileKernels::multiply for one instruction set; see tile_kernels_impl.h for how this file is
// compiled. Internal to attention/backends/flex/.
#pragma once

#include "attention/backends/flex/vectors_impl.h"

namespace tessera::flex::FLEX_NAMESPACE {

namespace {

// Where the vectors of a row of the register tile begin, in b and in c.
template <int kVectors>
struct TileColumns {
  const float* b[kVectors];
  ptrdiff_t b_row;
  float* c[kVectors];
};

// Computes kRows x (kVectors * kLanes) results in registers.
template <int kRows, int kVectors>
inline void multiply_tile(int k, MatrixView a, const TileColumns<kVectors>& columns,
                          ptrdiff_t c_row, bool accumulate) {
  Floats sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = accumulate ? load(columns.c[v] + i * c_row) : Floats{};
    }
  }
  const float* a_column = a.data;
  ptrdiff_t b_row = 0;
  for (int p = 0; p < k; ++p, a_column += a.col, b_row += columns.b_row) {
    Floats row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = load(columns.b[v] + b_row);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Floats x = all(a_column[i * a.row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[i][v] += x * row[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(columns.c[v] + i * c_row, sums[i][v]);
  }
}

// Multiplies the last rows, up to kRows.
template <int kRows, int kVectors>
inline void multiply_rest(int rows, int k, MatrixView a, const TileColumns<kVectors>& columns,
                          ptrdiff_t c_row, bool accumulate) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      multiply_tile<kRows>(k, a, columns, c_row, accumulate);
    } else {
      multiply_rest<kRows - 1>(rows, k, a, columns, c_row, accumulate);
    }
  }
}

// A register tile of fewer rows waits for its own sums: two vectors a row, four cycles a sum, two
// sums a cycle. What is left of the rows is therefore cut in halves where one tile would be
// smaller.
constexpr int kFewestRows = 4;

// Multiplies columns [j, j + kVectors * kLanes). Their piece of b stays in the first-level cache
// while the rows pass, and each pass fetches a share of the next piece.
template <int kVectors>
inline void multiply_columns(int j, int m, int k, MatrixView a, PanelView b, float* c,
                             ptrdiff_t c_row, bool accumulate) {
  const float* next = b.data + (j + kVectors * kLanes) / kPad * b.panel;
  const int per_pass = (k * FLEX_ROWS + m - 1) / m;  // rows
  TileColumns<kVectors> columns;
  columns.b_row = b.row;
  for (int v = 0; v < kVectors; ++v) {
    const int column = j + v * kLanes;
    columns.b[v] = b.data + column / kPad * b.panel + column % kPad;
    columns.c[v] = c + column;
  }
  const auto advance = [&](int rows) {
    a.data += rows * a.row;
    for (float*& to : columns.c) to += rows * c_row;
  };
  int left = m;
  for (; left == FLEX_ROWS || left >= FLEX_ROWS + kFewestRows; left -= FLEX_ROWS) {
    multiply_tile<FLEX_ROWS>(k, a, columns, c_row, accumulate);
    for (int row = 0; row < per_pass; ++row, next += b.row) {
      __builtin_prefetch(next);
      if (kVectors * kLanes > kPad) __builtin_prefetch(next + b.panel);
    }
    advance(FLEX_ROWS);
  }
  const int half = left > FLEX_ROWS ? (left + 1) / 2 : left;
  multiply_rest<FLEX_ROWS>(half, k, a, columns, c_row, accumulate);
  advance(half);
  multiply_rest<FLEX_ROWS>(left - half, k, a, columns, c_row, accumulate);
}

void multiply(int m, int n, int k, MatrixView a, PanelView b, float* c, ptrdiff_t c_row,
              bool accumulate) {
  int j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    multiply_columns<2>(j, m, k, a, b, c, c_row, accumulate);
  }
  for (; j < n; j += kLanes) multiply_columns<1>(j, m, k, a, b, c, c_row, accumulate);
}

}  // namespace

}  // namespace tessera::flex::FLEX_NAMESPACE
