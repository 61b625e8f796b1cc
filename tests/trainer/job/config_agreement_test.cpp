#include "trainer/job/config_agreement.h"

#include <gtest/gtest.h>

#include <vector>

#include "configs/load_config.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

TEST(ConfigDifferences, NamesKeysAndBothValues) {
  JobConfig config;
  const std::string toml = to_toml(config);
  EXPECT_EQ(config_differences(toml, toml, "rank 0"), "");
  config.training.steps = 7;
  config.training.seed = 3;
  config.model.flavor = "8B";
  EXPECT_EQ(config_differences(to_toml(config), toml, "rank 0"),
            "model.flavor is \"8B\" (rank 0: \"debugmodel\"), "
            "training.seed is 3 (rank 0: none), training.steps is 7 (rank 0: 10000)");
}

TEST(ConfigDifferences, KeysOfOneSideOnly) {
  EXPECT_EQ(config_differences("[a]\nx = 1\n", "[a]\nx = 1\ny = 2\n", "rank 0"),
            "a.y is not a key (rank 0: 2)");
  EXPECT_EQ(config_differences("[a]\nx = 1\ny = 2\n", "[a]\nx = 1\n", "rank 0"),
            "a.y is 2 (rank 0: not a key)");
}

TEST(ConfigDifferences, TheFirstFourAreNamed) {
  EXPECT_EQ(config_differences("[s]\na = 1\nb = 1\nc = 1\nd = 1\ne = 1\nf = 1\n",
                               "[s]\na = 2\nb = 2\nc = 2\nd = 2\ne = 2\nf = 2\n", "that"),
            "s.a is 1 (that: 2), s.b is 1 (that: 2), s.c is 1 (that: 2), s.d is 1 (that: 2) and 2 "
            "more");
}

TEST(CheckSameConfig, PassesWhereAllAgree) {
  check_same_config({}, World());
  for (const int64_t size : {2, 4})
    testing::run_ranks(size, [](const World& world) { check_same_config({}, world); });
}

TEST(CheckSameConfig, EveryRankHearsWhichRanksDiffer) {
  std::vector<std::string> errors(4);
  testing::run_ranks(4, [&](const World& world) {
    JobConfig config;
    if (world.rank() == 1) config.training.seq_len = 512;
    if (world.rank() == 3) config.optimizer.lr = 1.0;
    try {
      check_same_config(config, world);
    } catch (const ConfigError& error) {
      errors[static_cast<size_t>(world.rank())] = error.what();
    }
  });
  EXPECT_EQ(errors[0],
            "the configurations of the ranks differ, expected the same everywhere: rank 1: "
            "training.seq_len is 512 (rank 0: 2048); rank 3: optimizer.lr is 1.0 (rank 0: 8e-4)");
  for (const std::string& error : errors) EXPECT_EQ(error, errors[0]);
}

TEST(CheckSameConfig, ARankThatDoesNotAnswerIsAnErrorAfterTheTimeout) {
  std::vector<World> worlds = World::in_one_process(2, std::chrono::milliseconds(200));
  EXPECT_ERROR(check_same_config({}, worlds[0]), "config/difference/1");
  EXPECT_ERROR(check_same_config({}, worlds[1]), "config/verdict");
}

}  // namespace
}  // namespace tessera
