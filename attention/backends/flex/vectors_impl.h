// Vectors of one instruction set; see tile_kernels_impl.h for how this file is compiled. They are
// the compiler's own vector type, so the same text serves every set.
// Internal to attention/backends/flex/.
#pragma once

#include <limits>

#include "attention/backends/flex/tile_kernels.h"

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

// The sum in a fixed order: by halves, then quarters, and so on.
inline float sum_of(Floats x) {
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) x[i] += x[i + step];
  }
  return x[0];
}

}  // namespace

}  // namespace tessera::flex::FLEX_NAMESPACE
