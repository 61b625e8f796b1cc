// Traffic against real counters: tests/trainer/estimate_test.cpp.
#include "models/llama3/costs.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

Llama3Config small_config() {
  Llama3Config config;
  config.dim = 8;
  config.n_layers = 3;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 2;
  config.ffn_dim = 16;
  return config;
}

TEST(Llama3Costs, ActivationsFollowTheFormula) {
  // N = 10, D = 8, A = 8, K = 4, F = 16, 4 heads, e = 2, f = 4.
  const Llama3Step step{.rows = 2, .seq_len = 5, .activation_bytes = 2, .statistic_bytes = 4};
  const Llama3Activations a = llama3_activations(small_config(), step);
  const int64_t layer = 10 * (2 * 8 * 2 + 2 * 4) + 10 * ((16 + 16 + 8 + 64) * 2 + 4 * 4);
  EXPECT_EQ(a.layer, layer);
  EXPECT_EQ(a.recomputed_layer, 10 * 8 * 2);
  EXPECT_EQ(a.kept, 3 * layer + 10 * (2 * 8 * 2 + 4));
  EXPECT_EQ(a.backward, 10 * (16 + 48) * 2);
}

TEST(Llama3Costs, TensorRanksDivideAllButWhatTheyGather) {
  Llama3Step step{.rows = 2, .seq_len = 8, .tp = 2, .recompute_every = 2};
  const Llama3Activations cut = llama3_activations(small_config(), step);
  EXPECT_EQ(cut.num_recomputed_layers, 1);
  EXPECT_EQ(cut.recomputed_layer, 8 * 8 * 4);  // half of the tokens
  step.sequence_parallel = false;
  EXPECT_EQ(llama3_activations(small_config(), step).recomputed_layer, 16 * 8 * 4);
  step.tp = 1;
  EXPECT_EQ(llama3_tensor_traffic(small_config(), step).all_reduce, 0);
  EXPECT_LT(cut.layer, llama3_activations(small_config(), step).layer);
}

TEST(Llama3Costs, ATiedEmbeddingIsUsedTwice) {
  Llama3Config config = small_config();
  EXPECT_EQ(llama3_block_uses(config), (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  config.tied_embeddings = true;
  EXPECT_EQ(llama3_block_uses(config), (std::vector<int64_t>{0, 1, 2, 3, 4, 0}));
}

}  // namespace
}  // namespace tessera
