// The bodies of TileKernels for one instruction set. Internal to attention/backends/flex/.
//
// This file is included once by each tile_kernels_<set>.cpp, which defines FLEX_NAMESPACE,
// FLEX_LANES (floats of a vector register) and FLEX_ROWS (rows of the register tile of `multiply`),
// and is compiled for that set:
//
//   #define FLEX_NAMESPACE avx2
//   #define FLEX_LANES 8
//   #define FLEX_ROWS 6
//   #include "attention/backends/flex/tile_kernels_impl.h"
#include "attention/backends/flex/layouts_impl.h"
#include "attention/backends/flex/multiply_impl.h"
#include "attention/backends/flex/vectors_impl.h"

namespace tessera::flex::FLEX_NAMESPACE {

namespace {

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
  const Floats r = (clamped - n * 0.693359375F) - n * -2.12194440e-4F;  // ln 2 in two pieces
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
    .copy_rows = copy_rows,
    .transpose = transpose,
    .multiply_elements = multiply_elements,
    .round_to_rows = round_to_rows,
    .round_to_pairs = round_to_pairs,
    .bf16 = nullptr,
};

}  // namespace tessera::flex::FLEX_NAMESPACE
