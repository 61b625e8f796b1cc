#include "models/init/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace tessera {
namespace {

// Known answers of Philox4x32-10 from Random123's kat_vectors: counter 0, key 0.
TEST(Philox, KnownAnswer) {
  uint32_t words[4];
  philox_quads(words, 0, 1, {0, 0});
  EXPECT_EQ(words[0], 0x6627e8d5u);
  EXPECT_EQ(words[1], 0xe169c58du);
  EXPECT_EQ(words[2], 0xbc57ac4cu);
  EXPECT_EQ(words[3], 0x9b00dbd8u);
}

TEST(Philox, QuadsAreFunctionsOfTheirCounter) {
  constexpr int n = 100;
  const uint64_t first = (uint64_t{1} << 32) - 50;  // crosses from one counter word into the next
  std::vector<uint32_t> many(4 * n);
  philox_quads(many.data(), first, n, {11, 12});
  for (int i = 0; i < n; ++i) {
    uint32_t one[4];
    philox_quads(one, first + static_cast<uint64_t>(i), 1, {11, 12});
    for (int lane = 0; lane < 4; ++lane) EXPECT_EQ(many[lane * n + i], one[lane]) << i;
  }
}

// FNV-1a over the bits of floats.
uint64_t hash_bits(const std::vector<float>& values) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 0x100000001B3u;
  }
  return hash;
}

// Checkpoints and loss curves depend on these bits: they never change. Taken from this code
// on 2.13; equal bits came from g++ 12 at -O0, and at -O3 with -march=x86-64 and x86-64-v3.
TEST(Philox, GoldenBits) {
  std::vector<float> values(1 << 16);
  fill_normal(values.data(), 0, 1 << 16, {1, 2}, 0.0f, 1.0f);
  EXPECT_EQ(hash_bits(values), 15614338746746461438u);
  fill_truncated_normal(values.data(), 0, 1 << 16, {1, 2}, 0.0f, 1.0f, -3.0f, 3.0f);
  EXPECT_EQ(hash_bits(values), 15321264419665771453u);
}

struct Moments {
  double mean = 0, variance = 0, fourth = 0, lag = 0;  // lag: correlation of neighbours
};

Moments moments_of(const std::vector<float>& values) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = values[i];
    m.mean += x / n;
    m.variance += x * x / n;
    m.fourth += x * x * x * x / n;
    m.lag += x * values[(i + 1) % values.size()] / n;
  }
  return m;
}

// Bounds are five standard errors.
TEST(Philox, NormalHasItsMoments) {
  constexpr int64_t n = 1 << 20;
  const double error = 5 / std::sqrt(static_cast<double>(n));
  std::vector<float> values(n);
  for (uint32_t key = 0; key < 4; ++key) {
    fill_normal(values.data(), 0, n, {key, 77}, 0.0f, 1.0f);
    const Moments m = moments_of(values);
    EXPECT_NEAR(m.mean, 0, error);
    EXPECT_NEAR(m.variance, 1, error * std::sqrt(2.0));  // var(x^2) = 2
    EXPECT_NEAR(m.fourth, 3, error * std::sqrt(96.0));   // var(x^4) = 105 - 9
    EXPECT_NEAR(m.lag, 0, error);
  }
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double share_below(const std::vector<float>& values, double bound) {
  double count = 0;
  for (const float value : values) count += value < bound;
  return count / static_cast<double>(values.size());
}

TEST(Philox, NormalHasItsDistribution) {
  constexpr int64_t n = 1 << 20;
  std::vector<float> values(n);
  fill_normal(values.data(), 0, n, {5, 6}, 1.0f, 2.0f);
  for (const double z : {-4.0, -3.0, -2.0, -1.0, -0.3, 0.0, 0.5, 1.5, 2.5, 3.5}) {
    const double p = normal_cdf(z);
    EXPECT_NEAR(share_below(values, 1.0 + 2.0 * z), p, 5 * std::sqrt(p * (1 - p) / n)) << z;
  }
}

TEST(Philox, TruncatedNormalHasItsDistribution) {
  struct Case {
    double low, high;
  };
  constexpr int64_t n = 1 << 20;
  std::vector<float> values(n);
  for (const Case& c : {Case{-3, 3}, Case{-1, 2}, Case{-2, 2}, Case{0.5, 4}, Case{-8, 0.25}}) {
    fill_truncated_normal(values.data(), 0, n, {8, 9}, 0.0f, 1.0f, static_cast<float>(c.low),
                          static_cast<float>(c.high));
    const double below = normal_cdf(c.low), mass = normal_cdf(c.high) - below;
    for (int step = 1; step < 20; ++step) {
      const double z = c.low + (c.high - c.low) * step / 20;
      const double p = (normal_cdf(z) - below) / mass;
      EXPECT_NEAR(share_below(values, z), p, 5 * std::sqrt(p * (1 - p) / n) + 1e-6)
          << "[" << c.low << ", " << c.high << "] at " << z;
    }
    EXPECT_EQ(share_below(values, c.low), 0);
    EXPECT_EQ(share_below(values, std::nextafter(static_cast<float>(c.high), 100.0f)), 1);
  }
}

TEST(Philox, AnyRangeIsASliceOfTheWhole) {
  constexpr int64_t n = 5000;
  std::vector<float> normal(n), cut(n);
  fill_normal(normal.data(), 0, n, {3, 4}, 0.0f, 1.0f);
  fill_truncated_normal(cut.data(), 0, n, {3, 4}, 0.0f, 1.0f, -2.0f, 1.0f);
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {1, 1}, {3, 2}, {4, 4}, {1023, 2}, {1024, 1}, {1025, 2049}, {4997, 3}}) {
    std::vector<float> part(static_cast<size_t>(count));
    fill_normal(part.data(), first, count, {3, 4}, 0.0f, 1.0f);
    EXPECT_EQ(std::memcmp(part.data(), &normal[static_cast<size_t>(first)], part.size() * 4), 0);
    fill_truncated_normal(part.data(), first, count, {3, 4}, 0.0f, 1.0f, -2.0f, 1.0f);
    EXPECT_EQ(std::memcmp(part.data(), &cut[static_cast<size_t>(first)], part.size() * 4), 0);
  }
}

}  // namespace
}  // namespace tessera
