// The bodies of TileKernels for one instruction set. Included once by each tile_kernels_<set>.cpp,
// which defines FLEX_NAMESPACE, FLEX_LANES (floats of a vector register) and FLEX_ROWS (rows of the
// register tile of `multiply`), and is compiled for that set. Vectors are the compiler's own vector
// type, so the same text serves every set.
#include <limits>

#include "attention/flex/tile_kernels.h"

namespace tessera::flex::FLEX_NAMESPACE {

namespace {

constexpr int kLanes = FLEX_LANES;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

typedef float Floats __attribute__((vector_size(FLEX_LANES * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(FLEX_LANES * sizeof(int32_t))));

inline Floats load(const float* from) {
  Floats x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

inline void store(float* to, Floats x) { __builtin_memcpy(to, &x, sizeof x); }

// x - 0 is x for every x, which x + 0 is not: only this is a plain broadcast.
inline Floats all(float x) { return x - Floats{}; }

inline Floats max(Floats x, Floats y) { return x > y ? x : y; }

inline float max_of(Floats x) {
  float result = x[0];
  for (int i = 1; i < kLanes; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// In a fixed order: halves, quarters, ...
inline float sum_of(Floats x) {
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) x[i] += x[i + step];
  }
  return x[0];
}

constexpr float kRounding = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer

// 2^n, where n >= -127 was rounded by adding kRounding: its low bits are n. 0 for -127.
inline Floats power_of_two(Floats shifted) {
  Ints bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000;
  Floats power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power;
}

// exp by 2^n * polynomial(r), |r| <= ln(2) / 2, of degree 6 (Taylor coefficients are within 1e-7 of
// the best ones there); 0 below -88, where float32 would become denormal.
inline Floats exp_of(Floats x) {
  const Floats clamped = max(all(-88.0F), x);
  const Floats rounding = all(kRounding);
  const Floats shifted = clamped * 1.44269504F + rounding;
  const Floats n = shifted - rounding;
  const Floats r = (clamped - n * 0.693359375F) - n * -2.12194440e-4F;  // ln 2 in two parts
  Floats p = all(1.0F / 720.0F);
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  return p * power_of_two(shifted);
}

// exp of x <= 0 as a softmax needs it, in two thirds of the instructions: by 2^t with one product
// for t and a polynomial of degree 5 (least relative error, with 2^0 = 1). Off by 2e-7 near 0 and
// by 1e-7 |x| below, so by less than 2e-7 of the largest of a row's terms.
inline Floats exp_of_difference(Floats x) {
  const Floats t = max(all(-127.0F), x * 1.44269504F);
  const Floats rounding = all(kRounding);
  const Floats shifted = t + rounding;
  const Floats r = t - (shifted - rounding);
  Floats p = all(0.00132647238F);
  p = p * r + 0.00967151858F;
  p = p * r + 0.0555073395F;
  p = p * r + 0.240222424F;
  p = p * r + 0.693147004F;
  p = p * r + 1.0F;
  return p * power_of_two(shifted);
}

// Where the vectors of a row of the register tile begin, in b and in c.
template <int kVectors>
struct TileColumns {
  const float* b[kVectors];
  ptrdiff_t b_row;
  float* c[kVectors];
};

// kRows x (kVectors * kLanes) results in registers.
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

// The last rows, up to kRows.
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

// Columns [j, j + kVectors * kLanes): b's part of them stays in the first-level cache while the
// rows pass, and each pass fetches a share of the next part.
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

// tanh(x) = 1 - 2 / (exp(2 x) + 1), which is within float32's error of 1 where exp saturates.
inline Floats tanh_of(Floats x) {
  const Floats limited = max(all(-20.0F), x < all(20.0F) ? x : all(20.0F));
  return 1.0F - 2.0F / (exp_of(2.0F * limited) + 1.0F);
}

void cap_scores(ScoreTile tile, float cap, float* slopes) {
  for (int i = 0; i < tile.rows; ++i) {
    float* row = tile.scores + i * tile.ld;
    for (int j = 0; j < tile.cols; j += kLanes) {
      const Floats t = tanh_of(load(row + j) / cap);
      store(row + j, cap * t);
      if (slopes != nullptr) store(slopes + i * tile.ld + j, 1.0F - t * t);
    }
  }
}

void add_alibi(ScoreTile tile, float slope, float first_distance) {
  Floats column;
  for (int lane = 0; lane < kLanes; ++lane) column[lane] = static_cast<float>(lane);
  for (int i = 0; i < tile.rows; ++i) {
    float* row = tile.scores + i * tile.ld;
    for (int j = 0; j < tile.cols; j += kLanes) {
      const float first = first_distance + static_cast<float>(j) - static_cast<float>(i);
      store(row + j, load(row + j) + slope * (first + column));
    }
  }
}

void mask_scores(ScoreTile tile, MaskBits bits) {
  Ints lane_bit;
  for (int lane = 0; lane < kLanes; ++lane) lane_bit[lane] = 1 << lane;
  for (int i = 0; i < tile.rows; ++i) {
    float* row = tile.scores + i * tile.ld;
    if (bits.words != nullptr) {
      const uint64_t* words = bits.words + i * bits.words_per_row;
      for (int j = 0; j < tile.cols; j += kLanes) {
        const int bit = bits.first + j;
        const auto lanes =
            static_cast<int32_t>(words[bit / 64] >> (bit % 64) & ((1U << kLanes) - 1));
        const Ints allowed = (lane_bit & lanes) != 0;
        store(row + j, allowed ? load(row + j) : all(-kInfinity));
      }
    }
    for (int j = tile.live_cols; j < tile.cols; ++j) row[j] = -kInfinity;
  }
}

bool softmax_step(ScoreTile tile, float* maximum, float* sum, float* rescale) {
  bool any = false;
  for (int i = 0; i < tile.rows; ++i) {
    float* row = tile.scores + i * tile.ld;
    Floats highest = load(row);
    for (int j = kLanes; j < tile.cols; j += kLanes) highest = max(highest, load(row + j));
    const float old = maximum[i];
    const float now = max_of(highest) > old ? max_of(highest) : old;
    if (now == -kInfinity) {  // nothing allowed so far: exp(-inf - -inf) would be NaN
      for (int j = 0; j < tile.cols; j += kLanes) store(row + j, Floats{});
      rescale[i] = 1.0F;
      continue;
    }
    Floats total{};
    for (int j = 0; j < tile.cols; j += kLanes) {
      const Floats p = exp_of_difference(load(row + j) - now);
      store(row + j, p);
      total += p;
    }
    rescale[i] = now == old ? 1.0F : exp_of(all(old - now))[0];
    maximum[i] = now;
    sum[i] = sum[i] * rescale[i] + sum_of(total);
    any = any || rescale[i] != 1.0F;
  }
  return any;
}

void probabilities(ScoreTile tile, const float* lse) {
  for (int i = 0; i < tile.rows; ++i) {
    float* row = tile.scores + i * tile.ld;
    // A row without a key: every score is -inf, and so is the difference to any finite number.
    const float shift = lse[i] == -kInfinity ? 0.0F : lse[i];
    for (int j = 0; j < tile.cols; j += kLanes) store(row + j, exp_of(load(row + j) - shift));
  }
}

void score_gradients(ScoreTile probabilities, float* dp, const float* delta) {
  for (int i = 0; i < probabilities.rows; ++i) {
    const ptrdiff_t at = i * probabilities.ld;
    for (int j = 0; j < probabilities.cols; j += kLanes) {
      store(dp + at + j, load(probabilities.scores + at + j) * (load(dp + at + j) - delta[i]));
    }
  }
}

void scale_rows(float* x, ptrdiff_t ld, int rows, int cols, const float* factors) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; j += kLanes) {
      store(x + i * ld + j, load(x + i * ld + j) * factors[i]);
    }
  }
}

void multiply_elements(float* x, const float* y, ptrdiff_t ld, int rows, int cols) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; j += kLanes) {
      store(x + i * ld + j, load(x + i * ld + j) * load(y + i * ld + j));
    }
  }
}

typedef uint32_t Words __attribute__((vector_size(FLEX_LANES * sizeof(uint32_t))));

// The bits of bfloat16, to nearest even, in the upper halves.
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

#define FLEX_TEXT(x) #x
#define FLEX_NAME(x) FLEX_TEXT(x)

const TileKernels kKernels = {
    .name = FLEX_NAME(FLEX_NAMESPACE),
    .multiply = multiply,
    .cap_scores = cap_scores,
    .add_alibi = add_alibi,
    .mask_scores = mask_scores,
    .softmax_step = softmax_step,
    .probabilities = probabilities,
    .score_gradients = score_gradients,
    .scale_rows = scale_rows,
    .multiply_elements = multiply_elements,
    .round_to_rows = round_to_rows,
    .round_to_pairs = round_to_pairs,
    .bf16 = nullptr,
};

}  // namespace tessera::flex::FLEX_NAMESPACE
