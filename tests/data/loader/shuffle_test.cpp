#include "data/loader/shuffle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace tessera {
namespace {

using Order = std::vector<int64_t>;

// The golden orders come from an independent implementation: tests/golden/data/README.md.
TEST(Shuffle, GoldenOrders) {
  EXPECT_EQ(shuffled_order(12, 0, 0), (Order{9, 6, 5, 7, 1, 0, 3, 8, 11, 10, 2, 4}));
  EXPECT_EQ(shuffled_order(12, 0, 1), (Order{8, 7, 9, 11, 1, 10, 6, 3, 5, 4, 2, 0}));
  EXPECT_EQ(shuffled_order(12, 1, 0), (Order{0, 9, 2, 3, 6, 10, 8, 1, 7, 11, 4, 5}));
  EXPECT_EQ(shuffled_order(12, UINT64_MAX, 3), (Order{0, 2, 3, 9, 10, 7, 11, 1, 6, 5, 4, 8}));
}

TEST(Shuffle, IsAPermutation) {
  for (int64_t size : {0, 1, 2, 3, 100, 9999}) {
    Order order = shuffled_order(size, 7, 2);
    std::sort(order.begin(), order.end());
    Order expected(static_cast<size_t>(size));
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected);
  }
}

TEST(Shuffle, EpochsAndSeedsDiffer) {
  EXPECT_EQ(shuffled_order(1000, 3, 4), shuffled_order(1000, 3, 4));
  EXPECT_NE(shuffled_order(1000, 3, 4), shuffled_order(1000, 3, 5));
  EXPECT_NE(shuffled_order(1000, 3, 4), shuffled_order(1000, 4, 4));
  EXPECT_NE(shuffled_order(1000, 3, 5), shuffled_order(1000, 4, 4));
  EXPECT_NE(shuffled_order(1000, 3, 4), shuffled_order(1000, 4, 3));
}

// Chi-squared over where each of 8 documents lands in 8000 epochs: 49 degrees of freedom, whose
// 0.9999 quantile is 93.6 (mean 49). The orders are fixed, so this cannot fail by chance.
TEST(Shuffle, EveryPlaceIsEquallyLikely) {
  constexpr int64_t kSize = 8;
  constexpr int64_t kEpochs = 8000;
  double counts[kSize][kSize] = {};
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const Order order = shuffled_order(kSize, 42, epoch);
    for (int64_t place = 0; place < kSize; ++place) ++counts[place][order[place]];
  }
  const double expected = static_cast<double>(kEpochs) / kSize;
  double chi_squared = 0;
  for (const auto& row : counts) {
    for (double count : row) chi_squared += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_squared, 93.6);
}

}  // namespace
}  // namespace tessera
