#include "parallel/slot.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

TEST(InitSpec, SaysWhatItWasAskedFor) {
  EXPECT_EQ(InitSpec::constant(1.5).kind, InitSpec::Kind::kConstant);
  EXPECT_EQ(InitSpec::constant(1.5).value, 1.5);
  EXPECT_EQ(InitSpec::normal(0.5).kind, InitSpec::Kind::kNormal);
  EXPECT_EQ(InitSpec::normal(0.5).std, 0.5);
  EXPECT_EQ(InitSpec::normal(0.5).mean, 0.0);
  const InitSpec cut = InitSpec::truncated_normal(0.02, -2, 3);
  EXPECT_EQ(cut.kind, InitSpec::Kind::kTruncatedNormal);
  EXPECT_EQ(cut.std, 0.02);
  EXPECT_EQ(cut.low, -2);
  EXPECT_EQ(cut.high, 3);
}

TEST(InitSpec, RefusesImpossibleDistributions) {
  EXPECT_ERROR(InitSpec::normal(-1.0), "std is -1", ">= 0");
  EXPECT_ERROR(InitSpec::truncated_normal(0.0, -1, 1), "std is 0", "> 0");
  EXPECT_ERROR(InitSpec::truncated_normal(1.0, 2, 2), "[2, 2]", "low < high");
}

}  // namespace
}  // namespace tessera
