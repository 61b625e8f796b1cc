#include "attention/masks/mask_bands.h"

#include <gtest/gtest.h>

#include <random>

namespace tessera {
namespace {

constexpr int64_t kSize = 12;
const Band kWhole{.queries = {0, kSize}, .keys = {0, kSize}};

bool contains(const Band& band, int64_t q, int64_t kv) {
  return q >= band.queries.begin && q < band.queries.end && kv >= band.first_key(q) &&
         kv < band.end_key(q);
}

class RandomBands {
 public:
  explicit RandomBands(uint32_t seed) : random_(seed) {}

  Band band() {
    const auto pick = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(random_);
    };
    Band result{.queries = {pick(0, 6), pick(4, kSize)}, .keys = {pick(0, 6), pick(4, kSize)}};
    if (pick(0, 1) == 0) result.diag_begin = pick(-8, 4);
    if (pick(0, 1) == 0) result.diag_end = pick(-4, 8);
    return intersect(kWhole, result);
  }

 private:
  std::mt19937 random_;
};

void expect_tight(const Band& band) {
  int64_t first = Band::kUnbounded;
  int64_t end = 0;
  for (int64_t q = band.queries.begin; q < band.queries.end; ++q) {
    ASSERT_LT(band.first_key(q), band.end_key(q)) << "row " << q << " has no key";
    first = std::min(first, band.first_key(q));
    end = std::max(end, band.end_key(q));
  }
  if (!band.empty()) {
    EXPECT_EQ(band.keys, (TokenRange{first, end}));
  }
}

TEST(MaskBandsTest, IntersectionIsExactAndTight) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomBands random(seed);
    const Band a = random.band();
    const Band b = random.band();
    const Band both = intersect(a, b);
    expect_tight(both);
    for (int64_t q = 0; q < kSize; ++q) {
      for (int64_t kv = 0; kv < kSize; ++kv) {
        ASSERT_EQ(contains(both, q, kv), contains(a, q, kv) && contains(b, q, kv));
      }
    }
  }
}

TEST(MaskBandsTest, DifferenceIsExactTightAndDisjoint) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomBands random(seed);
    std::vector<Band> bands;
    for (uint32_t i = 0; i < seed % 5; ++i) {
      const Band band = random.band();
      if (!band.empty()) bands.push_back(band);
    }
    std::vector<Band> rest;
    subtract(kWhole, bands, rest);
    for (const Band& band : rest) expect_tight(band);
    for (int64_t q = 0; q < kSize; ++q) {
      for (int64_t kv = 0; kv < kSize; ++kv) {
        const auto holds = [&](const Band& band) { return contains(band, q, kv); };
        const int64_t expected = std::none_of(bands.begin(), bands.end(), holds) ? 1 : 0;
        ASSERT_EQ(std::count_if(rest.begin(), rest.end(), holds), expected) << q << " " << kv;
      }
    }
  }
}

TEST(MaskBandsTest, MergesRanges) {
  EXPECT_EQ(merge_ranges({{5, 7}, {0, 2}, {2, 3}, {9, 9}, {6, 8}}), (RangeSet{{0, 3}, {5, 8}}));
  EXPECT_EQ(merge_ranges({}), RangeSet{});
}

}  // namespace
}  // namespace tessera
