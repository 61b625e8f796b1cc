// Compiled with flags of its own (see CMakeLists.txt): -ffp-contract=off is part of the contract,
// the others let the compiler vectorise these loops and change no result.
#include "models/init/philox.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// Loops are compiled once per vector length and chosen when the program starts. The resolvers of
// such functions run before a sanitizer's runtime is ready.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TESSERA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TESSERA_CLONES
#endif
#define TESSERA_INLINE inline __attribute__((always_inline))

namespace tessera {
namespace {

constexpr int kChunkQuads = 256;

TESSERA_INLINE float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

TESSERA_INLINE uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Signed 32-bit integers convert to float in one instruction on every vector length; unsigned ones
// do not.
TESSERA_INLINE float signed_float(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word));
}

// ln x for normal x > 0: Cephes' logf, on x = m 2^e with m in [sqrt(1/2), sqrt(2)).
TESSERA_INLINE float natural_log(float x) {
  const uint32_t bits = as_bits(x);
  const uint32_t shifted = bits - 0x3F3504F3u;  // bits of sqrt(1/2)
  const float e = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float m = as_float((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  const float z = m * m;
  float y = 7.0376836292e-2f;
  y = y * m - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z;
  y = y + e * -2.12194440e-4f;  // ln 2 in two parts
  y = y - 0.5f * z;
  return (m + y) + e * 0.693359375f;
}

// Cephes' sinf and cosf for |a| <= pi / 4.
TESSERA_INLINE float small_sin(float a) {
  const float z = a * a;
  const float y = (-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f;
  return y * z * a + a;
}

TESSERA_INLINE float small_cos(float a) {
  const float z = a * a;
  const float y = (2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f;
  return y * z * z - 0.5f * z + 1.0f;
}

// Giles' single-precision erfinv for |x| < 1: both polynomials and a select.
TESSERA_INLINE float inverse_erf(float x) {
  const float w = -natural_log((1.0f - x) * (1.0f + x));
  const float c = w - 2.5f;
  float central = 2.81022636e-08f;
  central = central * c + 3.43273939e-07f;
  central = central * c - 3.5233877e-06f;
  central = central * c - 4.39150654e-06f;
  central = central * c + 0.00021858087f;
  central = central * c - 0.00125372503f;
  central = central * c - 0.00417768164f;
  central = central * c + 0.246640727f;
  central = central * c + 1.50140941f;
  const float t = std::sqrt(w) - 3.0f;
  float tail = -0.000200214257f;
  tail = tail * t + 0.000100950558f;
  tail = tail * t + 0.00134934322f;
  tail = tail * t - 0.00367342844f;
  tail = tail * t + 0.00573950773f;
  tail = tail * t - 0.0076224613f;
  tail = tail * t + 0.00943887047f;
  tail = tail * t + 1.00167406f;
  tail = tail * t + 2.83297682f;
  return (w < 5.0f ? central : tail) * x;
}

// Turns words into normal numbers, lane by lane. Lanes a and b share a radius and an angle.
TESSERA_CLONES void box_muller(const uint32_t* __restrict radius_words,
                               const uint32_t* __restrict angle_words, float* __restrict a,
                               float* __restrict b, int n, float mean, float std) {
  for (int i = 0; i < n; ++i) {
    const float u = signed_float(radius_words[i] >> 1) * 0x1p-31f + 0x1p-32f;  // in (0, 1]
    const float radius = std::sqrt(std::max(-2.0f * natural_log(u), 0.0f)) * std;
    // The top two bits choose the quadrant, the others an angle in [-pi / 4, pi / 4).
    const uint32_t word = angle_words[i];
    const float angle = signed_float(word << 2) * (0.78539816339744831f * 0x1p-31f);
    const float s = small_sin(angle), c = small_cos(angle);
    const uint32_t quadrant = word >> 30;
    const bool swapped = (quadrant & 1u) != 0;
    const uint32_t sign_a = ((quadrant + 1u) & 2u) << 30;  // quadrants 1 and 2
    const uint32_t sign_b = (quadrant & 2u) << 30;         // quadrants 2 and 3
    a[i] = radius * as_float(as_bits(swapped ? s : c) ^ sign_a) + mean;
    b[i] = radius * as_float(as_bits(swapped ? c : s) ^ sign_b) + mean;
  }
}

// middle and half_width are those of the interval (erf(low'), erf(high')), with
// low' = (low - mean) / (std sqrt(2)) and high' alike.
struct TruncatedNormal {
  float middle, half_width;
  float mean, scale;  // scale = std sqrt(2)
  float low, high;
};

TESSERA_CLONES void truncated_by_inversion(const uint32_t* __restrict words, float* __restrict out,
                                           int n, const TruncatedNormal& d) {
  constexpr float kLargest = 0.99999994f;  // the float32 before 1: keeps inverse_erf finite
  for (int i = 0; i < n; ++i) {
    const float p = d.middle + d.half_width * (signed_float(words[i]) * 0x1p-31f);
    const float inside = std::min(std::max(p, -kLargest), kLargest);
    const float value = inverse_erf(inside) * d.scale + d.mean;
    out[i] = std::min(std::max(value, d.low), d.high);
  }
}

// Cuts [first, first + count) into chunks of whole quads, has `make` turn the words of a chunk into
// values lane by lane, and writes the elements asked for in order.
template <typename Make>
TESSERA_INLINE void fill_chunks(float* out, int64_t first, int64_t count, PhiloxKey key,
                                Make make) {
  uint32_t words[4 * kChunkQuads];
  float values[4 * kChunkQuads];
  const int64_t end = first + count;
  for (int64_t at = first; at < end;) {
    const int64_t first_quad = at / 4;
    const int64_t num_quads = std::min<int64_t>(kChunkQuads, (end + 3) / 4 - first_quad);
    const int64_t stop = std::min(end, (first_quad + num_quads) * 4);
    const int n = static_cast<int>(num_quads);
    philox_quads(words, static_cast<uint64_t>(first_quad), n, key);
    make(words, values, n);
    for (; at < stop; ++at) *out++ = values[(at % 4) * n + (at / 4 - first_quad)];
  }
}

}  // namespace

TESSERA_CLONES void philox_quads(uint32_t* __restrict out, uint64_t first, int num_quads,
                                 PhiloxKey key) {
  for (int i = 0; i < num_quads; ++i) {
    const uint64_t counter = first + static_cast<uint64_t>(i);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = 0, c3 = 0, k0 = key.word0, k1 = key.word1;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    out[i] = c0;
    out[num_quads + i] = c1;
    out[2 * num_quads + i] = c2;
    out[3 * num_quads + i] = c3;
  }
}

void fill_normal(float* out, int64_t first, int64_t count, PhiloxKey key, float mean, float std) {
  fill_chunks(out, first, count, key, [&](const uint32_t* words, float* values, int n) {
    box_muller(words, words + n, values, values + n, n, mean, std);
    box_muller(words + 2 * n, words + 3 * n, values + 2 * n, values + 3 * n, n, mean, std);
  });
}

void fill_truncated_normal(float* out, int64_t first, int64_t count, PhiloxKey key, float mean,
                           float std, float low, float high) {
  const double scale = static_cast<double>(std) * 1.4142135623730951;
  const double from = std::erf((static_cast<double>(low) - mean) / scale);
  const double to = std::erf((static_cast<double>(high) - mean) / scale);
  const TruncatedNormal d{static_cast<float>((from + to) / 2),
                          static_cast<float>((to - from) / 2),
                          mean,
                          static_cast<float>(scale),
                          low,
                          high};
  fill_chunks(out, first, count, key, [&](const uint32_t* words, float* values, int n) {
    truncated_by_inversion(words, values, 4 * n, d);
  });
}

}  // namespace tessera
