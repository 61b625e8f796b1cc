// Traffic against real counters: tests/trainer/estimate/estimate_test.cpp.
#include "models/llama3/costs.h"

#include <gtest/gtest.h>

#include "tests/support/small_models.h"

namespace tessera {
namespace {

Llama3Config costs_config() {
  return testing::small_llama({.dim = 8, .n_layers = 3, .head_dim = 2, .ffn_dim = 16});
}

const Llama3Stage kWhole{.num_layers = 3};

TEST(Llama3Costs, ActivationsFollowTheFormula) {
  // N = 10, D = 8, A = 8, K = 4, F = 16, 4 heads, e = 2, f = 4.
  const Llama3Step step{.rows = 2, .seq_len = 5, .activation_bytes = 2, .statistic_bytes = 4};
  const Llama3Activations a = llama3_activations(costs_config(), kWhole, step);
  const int64_t layer = 10 * (2 * 8 * 2 + 2 * 4) + 10 * ((16 + 16 + 8 + 64) * 2 + 4 * 4);
  EXPECT_EQ(a.layer, layer);
  EXPECT_EQ(a.recomputed_layer, 10 * 8 * 2);
  EXPECT_EQ(a.kept, 3 * layer + 10 * (2 * 8 * 2 + 4));
  EXPECT_EQ(a.backward, 10 * (16 + 48) * 2);
  EXPECT_EQ(a.deferred, 3 * 10 * (32 + 16 + 8 + 48) * 2);
}

TEST(Llama3Costs, StagesAddUpToTheModelAndWhatTheyHandOver) {
  const Llama3Step step{.rows = 2, .seq_len = 8, .tp = 2};
  const Llama3Stage first{.num_layers = 2, .num_recomputed = 1, .head = false};
  const Llama3Stage last{.embedding = false, .num_layers = 1};
  const Llama3Stage whole{.num_layers = 3, .num_recomputed = 1};
  const auto kept = [&](const Llama3Stage& stage) {
    return llama3_activations(costs_config(), stage, step).kept;
  };
  EXPECT_EQ(kept(first) + kept(last), kept(whole) + 8 * 8 * 4);
  const auto traffic = [&](const Llama3Stage& stage) {
    return llama3_tensor_traffic(costs_config(), stage, step);
  };
  EXPECT_EQ(traffic(first).gather + traffic(last).gather, traffic(whole).gather);
  EXPECT_EQ(traffic(first).scatter + traffic(last).scatter, traffic(whole).scatter);
  const Llama3Stage head_alone{.embedding = false};
  EXPECT_EQ(llama3_activations(costs_config(), head_alone, step).backward, 0);
}

TEST(Llama3Costs, FetchedKeysAndPartialResultsAreKept) {
  Llama3Step step{.rows = 1, .seq_len = 10};
  const int64_t own = llama3_activations(costs_config(), kWhole, step).layer;
  step.key_tokens = 25;
  const int64_t fetched = llama3_activations(costs_config(), kWhole, step).layer;
  EXPECT_EQ(fetched - own, 15 * 2 * 4 * 4);
  step.num_outputs = 3;
  EXPECT_EQ(llama3_activations(costs_config(), kWhole, step).layer - fetched,
            2 * 10 * (8 * 4 + 4 * 4));
}

TEST(Llama3Costs, TensorRanksDivideAllButWhatTheyGather) {
  Llama3Step step{.rows = 2, .seq_len = 8, .tp = 2};
  const Llama3Activations cut = llama3_activations(costs_config(), kWhole, step);
  EXPECT_EQ(cut.recomputed_layer, 8 * 8 * 4);  // half of the tokens
  step.sequence_parallel = false;
  EXPECT_EQ(llama3_activations(costs_config(), kWhole, step).recomputed_layer, 16 * 8 * 4);
  step.tp = 1;
  EXPECT_EQ(llama3_tensor_traffic(costs_config(), kWhole, step).all_reduce, 0);
  EXPECT_LT(cut.layer, llama3_activations(costs_config(), kWhole, step).layer);
}

TEST(Llama3Costs, ATiedEmbeddingIsUsedTwice) {
  Llama3Config config = costs_config();
  const AttentionOp attention = AttentionRegistry::with_builtins().make("eager");
  const auto names = [](Llama3& model) {
    std::vector<std::string> result;
    for (const Block* block : model.segment_blocks()) result.push_back(block->name);
    return result;
  };
  Llama3 untied(config, attention);
  EXPECT_EQ(names(untied), (std::vector<std::string>{"tok_embeddings", "layers.0", "layers.1",
                                                     "layers.2", "norm", "output"}));
  config.tied_embeddings = true;
  Llama3 tied(config, attention);
  EXPECT_EQ(names(tied), (std::vector<std::string>{"tok_embeddings", "layers.0", "layers.1",
                                                   "layers.2", "norm", "tok_embeddings"}));
}

}  // namespace
}  // namespace tessera
