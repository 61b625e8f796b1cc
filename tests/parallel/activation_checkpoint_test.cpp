#include "parallel/activation_checkpoint.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

std::string recomputed(int64_t num_layers, int64_t every_n) {
  std::vector<Block> blocks(num_layers + 2);
  std::vector<Block*> pointers;
  for (int64_t i = 0; i < num_layers + 2; ++i) {
    blocks[i].name = i == 0           ? "tok_embeddings"
                     : i > num_layers ? "norm"
                                      : "layers." + std::to_string(i - 1);
    blocks[i].recompute = false;
    pointers.push_back(&blocks[i]);
  }
  const int64_t count = checkpoint_every_nth_layer(pointers, every_n);
  std::string pattern;
  for (const Block& block : blocks) pattern += block.recompute ? '1' : '0';
  EXPECT_EQ(count, std::count(pattern.begin(), pattern.end(), '1'));
  return pattern;
}

TEST(ActivationCheckpointTest, ChoosesLayersAsTorchTitanCounts) {
  EXPECT_EQ(recomputed(6, 0), "00000000");
  EXPECT_EQ(recomputed(6, 1), "01111110");
  EXPECT_EQ(recomputed(6, 2), "00101010");
  EXPECT_EQ(recomputed(6, 4), "00001000");
  EXPECT_EQ(recomputed(6, 7), "00000000");
}

TEST(ActivationCheckpointTest, ZeroTurnsItOffAgain) {
  Block layer{.name = "layers.0", .slots = {}, .recompute = true, .callbacks = {}};
  EXPECT_EQ(checkpoint_every_nth_layer({&layer}, 0), 0);
  EXPECT_FALSE(layer.recompute);
}

TEST(ActivationCheckpointTest, RefusesNegativeCounts) {
  EXPECT_ERROR(checkpoint_every_nth_layer({}, -1), "every_n is -1", "0 (none) or more");
}

}  // namespace
}  // namespace tessera
