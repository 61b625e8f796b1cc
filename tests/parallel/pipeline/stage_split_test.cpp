#include "parallel/pipeline/stage_split.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

using Names = std::vector<std::vector<std::string>>;

Names names_of(const std::vector<StageModules>& stages) {
  Names names;
  for (const StageModules& stage : stages) names.push_back(stage.names());
  return names;
}

TEST(StageSplit, Case25EmbeddingAndHeadCountAsLayers) {
  EXPECT_EQ(names_of(split_evenly({2, 3, 2, 2})),
            (Names{{"tok_embeddings", "layers.0", "layers.1"}, {"layers.2", "norm", "output"}}));
  EXPECT_EQ(names_of(split_evenly({4, 6, 1, 1})), (Names{{"tok_embeddings", "layers.0"},
                                                         {"layers.1", "layers.2"},
                                                         {"layers.3", "layers.4"},
                                                         {"layers.5", "norm", "output"}}));
  const std::vector<StageModules> eight = split_evenly({8, 6, 1, 1});
  EXPECT_EQ(eight.front(), (StageModules{.embedding = true}));
  EXPECT_EQ(eight.back(), (StageModules{.first_layer = 6, .end_layer = 6, .head = true}));
  EXPECT_ERROR(split_evenly({9, 6, 1, 1}), "9 stages", "6 layers", "at most 8");
}

TEST(StageSplit, ADiscountLargerThanAStageIsRefused) {
  EXPECT_ERROR(split_evenly({4, 4, 3, 1}), "pipeline_parallel_first_stage_less_layers", "3 layers",
               "at most the 2");
  EXPECT_ERROR(split_evenly({4, 4, 1, 3}), "pipeline_parallel_last_stage_less_layers", "3 layers",
               "at most the 2");
  EXPECT_ERROR(split_evenly({2, 4, -1, 0}), "less_layers", "-1 and 0");
  EXPECT_ERROR(split_evenly({0, 4, 1, 1}), "0 stages");
  EXPECT_ERROR(split_evenly({1, 0, 1, 1}), "0 layers");
}

TEST(StageSplit, FirstStagesTakeWhatDoesNotDivide) {
  // 9 layers counted: 3 + 2 + 2 + 2, less one at both ends.
  const std::vector<StageModules> stages = split_evenly({4, 7, 1, 1});
  std::vector<int64_t> sizes;
  for (const StageModules& stage : stages) sizes.push_back(stage.num_layers());
  EXPECT_EQ(sizes, (std::vector<int64_t>{2, 2, 2, 1}));
}

TEST(StageSplit, EveryModuleIsInOneStage) {
  for (int64_t num_layers = 1; num_layers <= 12; ++num_layers) {
    const std::vector<std::string> all = split_evenly({1, num_layers, 5, 5})[0].names();
    ASSERT_EQ(all.size(), num_layers + 3u);
    for (int64_t num_stages = 1; num_stages <= num_layers + 2; ++num_stages) {
      const Names names = names_of(split_evenly({num_stages, num_layers, 1, 1}));
      EXPECT_EQ(static_cast<int64_t>(names.size()), num_stages);
      std::vector<std::string> joined;
      for (const auto& stage : names) joined.insert(joined.end(), stage.begin(), stage.end());
      EXPECT_EQ(joined, all);
      // Names say the same as the split.
      EXPECT_EQ(split_by_names(names, num_layers), split_evenly({num_stages, num_layers, 1, 1}));
    }
  }
}

TEST(StageSplit, LayersPerStageRoundUp) {
  const EvenSplit model{.num_layers = 6};
  EXPECT_EQ(num_stages_for(2, model), 4);
  EXPECT_EQ(num_stages_for(3, model), 3);
  EXPECT_EQ(num_stages_for(8, model), 1);
  EXPECT_ERROR(num_stages_for(0, model), "pipeline_parallel_layers_per_stage: got 0");
}

TEST(StageSplit, NamesAreCheckedInOrder) {
  EXPECT_EQ(split_by_names({{"tok_embeddings"}, {"layers.0", "layers.1"}, {"norm", "output"}}, 2),
            (std::vector<StageModules>{{.embedding = true},
                                       {.end_layer = 2},
                                       {.first_layer = 2, .end_layer = 2, .head = true}}));
  const auto split = [](const Names& names) { return split_by_names(names, 2); };
  EXPECT_ERROR(split({}), "module_fqns_per_model_part", "no stages");
  EXPECT_ERROR(split({{"tok_embeddings"}, {}}), "stage 1 has no modules");
  EXPECT_ERROR(split({{"tok_embeddings", "layers.1"}}), "stage 0", "got \"layers.1\"",
               "expected \"layers.0\"", "layers.0 to layers.1");
  EXPECT_ERROR(split({{"tok_embedding", "layers.0"}}), "got \"tok_embedding\"",
               "expected \"tok_embeddings\"");
  EXPECT_ERROR(split({{"tok_embeddings", "layers.0"}, {"layers.0"}}), "stage 1", "got \"layers.0\"",
               "expected \"layers.1\"");
  EXPECT_ERROR(split({{"tok_embeddings", "layers.0"}, {"layers.1", "norm"}}),
               "no stage has \"output\"");
  EXPECT_ERROR(split({{"tok_embeddings", "layers.0"}, {"layers.1", "norm"}, {"output"}}),
               "norm is in stage 1", "output in stage 2", "both in one stage");
  EXPECT_ERROR(split({{"tok_embeddings", "layers.0", "layers.1", "norm", "output", "norm"}}),
               "got \"norm\"", "expected nothing more");
}

}  // namespace
}  // namespace tessera::pipeline
