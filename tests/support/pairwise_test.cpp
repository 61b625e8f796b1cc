#include "tests/support/pairwise.h"

#include <gtest/gtest.h>

#include <utility>

namespace tessera::testing {
namespace {

// By another way than the helper's: any two values that meet in `all` meet in a picked one.
void expect_to_cover(const std::vector<Combination>& all, const std::vector<size_t>& picked) {
  for (const Combination& values : all) {
    for (size_t i = 0; i < values.size(); ++i) {
      for (size_t j = 0; j < values.size(); ++j) {
        bool is_met = false;
        for (const size_t p : picked) {
          is_met = is_met || (all[p][i] == values[i] && all[p][j] == values[j]);
        }
        EXPECT_TRUE(is_met) << "parameters " << i << " and " << j << ", values " << values[i]
                            << " and " << values[j];
      }
    }
  }
}

TEST(PairwiseCover, MeetsEveryPairWithFew) {
  struct Sizes {
    std::vector<int64_t> num_values;
    size_t most_picked;
  };
  for (const Sizes& sizes : {Sizes{{2, 2, 2}, 5},
                             {{7, 4, 4}, 32},
                             {{2, 7, 4, 4}, 36},
                             {{3, 3, 3, 3}, 12},
                             {{5, 2}, 10}}) {
    const std::vector<Combination> all = all_combinations(sizes.num_values);
    const std::vector<size_t> picked = pairwise_cover(all);
    expect_to_cover(all, picked);
    EXPECT_LE(picked.size(), sizes.most_picked);
  }
}

TEST(PairwiseCover, LeavesOutWhatIsRefused) {
  const std::vector<Combination> all = all_combinations(
      {2, 3, 3}, [](const Combination& values) { return values[0] == 1 && values[2] == 2; });
  EXPECT_EQ(all.size(), 15u);
  expect_to_cover(all, pairwise_cover(all));
}

TEST(PairwiseCover, TakesAnyListOfCombinations) {
  const std::vector<Combination> all = {{1, 8, 3}, {1, 8, 3}, {2, 8, 3}, {2, 9, 4}};
  EXPECT_EQ(pairwise_cover(all), (std::vector<size_t>{0, 2, 3}));
  EXPECT_EQ(all_combinations({2, 2}), (std::vector<Combination>{{0, 0}, {0, 1}, {1, 0}, {1, 1}}));
  EXPECT_TRUE(pairwise_cover({}).empty());
}

TEST(PairwiseCover, HasEachNameOnce) {
  using Named = std::pair<std::string, Combination>;
  const std::vector<Named> all = {{"a", {1, 1}}, {"a", {1, 1}}, {"b", {1, 1}}, {"c", {1, 2}}};
  const std::vector<Named> few = pairwise(
      all, [](const Named& one) { return one.second; }, [](const Named& one) { return one.first; });
  EXPECT_EQ(few, (std::vector<Named>{all[0], all[3], all[2]}));
}

}  // namespace
}  // namespace tessera::testing
