#include "trainer/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/errors.h"

namespace tessera {
namespace {

class EnvironmentTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "NO_COLOR"}) unsetenv(name);
  }
};

TEST_F(EnvironmentTest, OneProcessWithoutVariables) {
  const Environment environment = read_environment();
  EXPECT_EQ(environment.rank, 0);
  EXPECT_EQ(environment.world_size, 1);
  EXPECT_EQ(environment.local_rank, 0);
}

TEST_F(EnvironmentTest, ReadsTorchrunsVariables) {
  setenv("RANK", "5", 1);
  setenv("WORLD_SIZE", "8", 1);
  setenv("LOCAL_RANK", "1", 1);
  const Environment environment = read_environment();
  EXPECT_EQ(environment.rank, 5);
  EXPECT_EQ(environment.world_size, 8);
  EXPECT_EQ(environment.local_rank, 1);
}

TEST_F(EnvironmentTest, RefusesNonsenseByName) {
  setenv("WORLD_SIZE", "2", 1);
  setenv("RANK", "2", 1);
  EXPECT_ERROR(read_environment(), "RANK", "\"2\"", "0 to 1");
  setenv("RANK", "one", 1);
  EXPECT_ERROR(read_environment(), "RANK", "\"one\"");
  setenv("WORLD_SIZE", "0", 1);
  EXPECT_ERROR(read_environment(), "WORLD_SIZE", "\"0\"");
}

TEST_F(EnvironmentTest, NoColorCountsWhenItIsNotEmpty) {
  unsetenv("NO_COLOR");
  EXPECT_FALSE(wants_no_color());
  setenv("NO_COLOR", "", 1);
  EXPECT_FALSE(wants_no_color());
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(wants_no_color());
}

}  // namespace
}  // namespace tessera
