#include "parallel/comm/heart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <stdexcept>

namespace tessera {
namespace {

using std::chrono::milliseconds;

class HeartTest : public ::testing::Test {
 protected:
  LifeSign sign(int64_t rank) const { return read_life_signs(*store_, 3, {rank})[rank]; }

  c10::intrusive_ptr<c10d::Store> store_ = c10::make_intrusive<c10d::HashStore>();
};

TEST_F(HeartTest, BeatsWithoutItsRanksDoing) {
  Heart heart(store_, 2, milliseconds(1));
  const int64_t before = sign(2).num_beats;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(heart.wait_for_beat());
  EXPECT_GE(sign(2).num_beats, before + 3);
}

TEST_F(HeartTest, SaysAtOnceHowItsRankIs) {
  Heart heart(store_, 1, std::chrono::hours(1));
  EXPECT_EQ(sign(1), LifeSign{});
  heart.say_failed();
  EXPECT_EQ(sign(1), LifeSign{.has_failed = true});
  heart.say_left();
  EXPECT_EQ(sign(1), (LifeSign{.has_failed = true, .has_left = true}));
}

TEST_F(HeartTest, StopsWithItsRank) {
  std::make_unique<Heart>(store_, 1, milliseconds(1))->wait_for_beat();
  const LifeSign last = sign(1);
  Heart other(store_, 2, milliseconds(1));
  for (int i = 0; i < 5; ++i) other.wait_for_beat();
  EXPECT_EQ(sign(1), last);
}

TEST_F(HeartTest, RanksThatNeverSpokeCountAsHavingLeft) {
  const Heart heart(store_, 1, milliseconds(1));
  const std::vector<LifeSign> signs = read_life_signs(*store_, 3, {1});
  EXPECT_TRUE(signs[0].has_left);
  EXPECT_FALSE(signs[1].has_left);
  EXPECT_TRUE(signs[2].has_left);
}

class LostStore : public c10d::HashStore {
 public:
  void set(const std::string& /*key*/, const std::vector<uint8_t>& /*data*/) override {
    throw std::runtime_error("broken pipe");
  }
};

TEST_F(HeartTest, ALostStoreEndsTheWaitForBeats) {
  Heart heart(c10::make_intrusive<LostStore>(), 1, std::chrono::hours(1));
  EXPECT_FALSE(heart.wait_for_beat());
  heart.say_failed();  // does not throw
}

}  // namespace
}  // namespace tessera
