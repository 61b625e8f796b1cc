#include "parallel/comm/life_signs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Rank 0 watches ranks 1 and 2; a silent one is lost after four looks.
LifeWatch watch_of_three() { return LifeWatch({.rank = 0, .num_ranks = 3, .patience = 4}); }

std::vector<LifeSign> signs(const LifeSign& first, const LifeSign& second) {
  return {{}, first, second};
}
std::vector<LifeSign> beats(int64_t first, int64_t second) {
  return signs({.num_beats = first}, {.num_beats = second});
}

TEST(LifeSign, SurvivesItsText) {
  for (const LifeSign& sign :
       {LifeSign{}, LifeSign{12, true, false}, LifeSign{13, false, true}, LifeSign{7, true, true}})
    EXPECT_EQ(life_sign_of(to_text(sign)), sign);
}

TEST(LifeWatch, ARankWithoutABeatIsLostAfterThatManyLooks) {
  LifeWatch watch = watch_of_three();
  watch.look(beats(5, 5));
  for (int look = 1; look < 4; ++look) {
    watch.look(beats(5, 5 + look));
    EXPECT_EQ(watch.life(1), Life::kUnknown);
  }
  watch.look(beats(5, 9));
  EXPECT_THAT(watch.others(Life::kLost), ElementsAre(1));
  EXPECT_THAT(watch.others(Life::kLives), ElementsAre(2));
  EXPECT_TRUE(watch.is_settled());
}

// The other rank beats once while we beat three times: its machine is busier than this one.
TEST(LifeWatch, ASlowRankLives) {
  LifeWatch watch = watch_of_three();
  int num_looks = 0;
  for (; !watch.is_settled(); ++num_looks) {
    watch.look(beats(num_looks / 3, num_looks));
    EXPECT_THAT(watch.others(Life::kLost), IsEmpty());
    ASSERT_LT(num_looks, 9);
  }
  EXPECT_THAT(watch.others(Life::kLives), ElementsAre(1, 2));
}

// The second look saw the last beat of the rank that then fell silent.
TEST(LifeWatch, ARankThatDiesWhileWeLookIsLost) {
  LifeWatch watch = watch_of_three();
  watch.look(beats(5, 5));
  for (int look = 1; look < 5; ++look) {
    watch.look(beats(6, 5 + look));
    EXPECT_FALSE(watch.is_settled());
  }
  watch.look(beats(6, 10));
  EXPECT_THAT(watch.others(Life::kLost), ElementsAre(1));
}

TEST(LifeWatch, WhatARankSaysOfItselfSettlesItAtOnce) {
  LifeWatch watch = watch_of_three();
  watch.look(signs({.has_failed = true}, {.has_left = true}));
  EXPECT_TRUE(watch.is_settled());
  EXPECT_THAT(watch.others(Life::kFailed), ElementsAre(1));
  EXPECT_THAT(watch.others(Life::kLeft), ElementsAre(2));
  EXPECT_FALSE(watch.is_alone()) << "rank 1 has not left";

  watch.look(signs({.has_failed = true, .has_left = true}, {.has_left = true}));
  EXPECT_THAT(watch.others(Life::kFailed), ElementsAre(1)) << "that it left afterwards is no news";
  EXPECT_TRUE(watch.is_alone());
}

TEST(LifeWatch, IsAloneWhenTheOthersAreSilent) {
  LifeWatch watch = watch_of_three();
  for (int look = 0; look < 5; ++look) {
    EXPECT_FALSE(watch.is_alone()) << look;
    watch.look(signs({.num_beats = 5, .has_failed = true}, {.has_left = true}));
  }
  EXPECT_TRUE(watch.is_alone());
}

}  // namespace
}  // namespace tessera
