// Parts of a model on the ranks of a pipeline, and a training step over them. That the results
// equal those of one rank is tested in tests/parity/pipeline_parity_test.cpp.
#include "trainer/step/pipeline_passes.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>

#include "data/loader/packing.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/rank_model.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_models.h"

namespace tessera {
namespace {

MakeModel four_layers(bool tied) {
  return testing::llama_maker(testing::small_llama({.n_layers = 4, .tied = tied}));
}

Batch rows_of_12(int64_t num_rows) {
  std::vector<std::vector<int64_t>> documents;
  int64_t state = 7;
  for (int64_t i = 0; i < 4 * num_rows; ++i) {
    std::vector<int64_t> document(static_cast<size_t>(3 + i % 5));
    for (int64_t& token : document) token = (state = (state * 5 + 3) % 61);
    documents.push_back(std::move(document));
  }
  return pack_documents(documents, 12).rows(0, num_rows);
}

pipeline::PipelinePlan plan_of(const std::string& schedule, int64_t num_microbatches) {
  return pipeline::plan_pipeline({.num_ranks = 2,
                                  .num_layers = 4,
                                  .num_microbatches = num_microbatches,
                                  .schedule = schedule});
}

std::vector<std::string> block_names(const StageModels& stages) {
  std::vector<std::string> names;
  for (const Block* block : stages.blocks()) names.push_back(block->name);
  return names;
}

TEST(StageModelsTest, EachRankBuildsItsOwnStages) {
  using Names = std::vector<std::string>;
  const pipeline::PipelinePlan loop = plan_of("1F1B", 2);
  EXPECT_EQ(block_names(make_stage_models(loop, 0, {}, four_layers(true))),
            (Names{"tok_embeddings", "layers.0", "layers.1"}));
  EXPECT_EQ(block_names(make_stage_models(loop, 1, {}, four_layers(true))),
            (Names{"layers.2", "layers.3", "norm", "tok_embeddings"}));
  // In a V the first and the last stage meet: a tied embedding is there once.
  const pipeline::PipelinePlan v = plan_of("ZBVZeroBubble", 2);
  const StageModels ends = make_stage_models(v, 0, {}, four_layers(true));
  EXPECT_EQ(ends.stages, (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(block_names(ends), (Names{"tok_embeddings", "layers.0", "norm"}));
  EXPECT_EQ(block_names(make_stage_models(v, 1, {}, four_layers(true))),
            (Names{"layers.1", "layers.2", "layers.3"}));
}

testing::TrainedRank rank_of(const World& world, const pipeline::PipelinePlan& plan,
                             const CreateMaskFn& create_mask_fn = create_block_mask) {
  return {{.mesh = DeviceMesh(world, {.pp = 2}), .pipeline = plan, .seed = 1},
          four_layers(false),
          {},
          create_mask_fn};
}

TEST(PipelinePasses, MasksAreBuiltOncePerMicrobatchOnEachRank) {
  std::atomic<int64_t> num_calls = 0;
  const CreateMaskFn counting = [&](const MaskMod& rule, const MaskShape& shape) {
    ++num_calls;
    EXPECT_EQ(shape.batch, 2);
    return create_block_mask(rule, shape);
  };
  testing::run_ranks(2, [&](const World& world) {
    const testing::TrainedRank rank = rank_of(world, plan_of("Interleaved1F1B", 4), counting);
    rank.step->run({rows_of_12(8)}, 1e-3);
  });
  EXPECT_EQ(num_calls, 2 * 4);
}

TEST(PipelinePasses, NonFiniteValuesEndEveryRank) {
  testing::run_ranks(2, [](const World& world) {
    const testing::TrainedRank rank = rank_of(world, plan_of("1F1B", 2));
    for (const NamedShard& part :
         rank.model.parameters().named(rank.model.parameters().masters())) {
      if (part.name != "layers.1.ffn_norm.weight") continue;
      part.tensor.fill_(std::numeric_limits<float>::quiet_NaN());
    }
    const at::Tensor before = rank.model.parameters().masters().clone();
    EXPECT_ERROR(rank.step->run({rows_of_12(2)}, 1e-3), "the loss is nan",
                 world.rank() == 0 ? "layers.1.ffn_norm.weight" : "block layers.2");
    EXPECT_TRUE(before.allclose(rank.model.parameters().masters(), 0, 0, /*equal_nan=*/true));
  });
}

// Extras in any batch of a step are refused on every rank, before a mask is built.
TEST(PipelinePasses, RefusesExtrasThatNoStageReads) {
  const CreateMaskFn never = [](const MaskMod& rule, const MaskShape& shape) {
    ADD_FAILURE() << "a mask is built";
    return create_block_mask(rule, shape);
  };
  Batch with_images = rows_of_12(4);
  with_images.extras = {.patches_BPC = at::zeros({4, 3, 2}),
                        .image_ids_BP = at::zeros({4, 3}, at::kLong),
                        .feature_of_token_BT = at::zeros({4, 12}, at::kLong)};
  testing::run_ranks(2, [&](const World& world) {
    const testing::TrainedRank rank = rank_of(world, plan_of("1F1B", 2), never);
    EXPECT_ERROR(rank.step->run({rows_of_12(4), with_images}, 1e-3), "Batch::extras",
                 "patches_BPC [4, 3, 2]", "no stage of llama3 debugmodel reads them");
  });
}

TEST(PipelinePasses, RefusesParametersThatReduceTooEarly) {
  const pipeline::PipelinePlan plan = pipeline::plan_pipeline({.num_ranks = 1, .num_layers = 4});
  StageModels stages = make_stage_models(plan, 0, {}, four_layers(false));
  ParameterStore parameters(stages.blocks(), {}, 1);
  const ByteTokenizer tokenizer;
  const MaskBuilder masked(tokenizer, create_block_mask);
  EXPECT_ERROR(PipelinePasses(stages, plan.execution, parameters, masked, {}), "reduce_at_end");
}

}  // namespace
}  // namespace tessera
