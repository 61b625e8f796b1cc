// Stages of a Llama 3, each with its own modules, one after the other are the whole model.
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "parallel/pipeline/weight_gradients.h"
#include "tests/models/llama3/llama3_support.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using pipeline::StageModules;

const std::vector<StageModules> kStages = {
    {.embedding = true},
    {.first_layer = 0, .end_layer = 2},
    {.first_layer = 2, .end_layer = 3, .head = true},
};

std::unique_ptr<Llama3> stage(const Llama3Config& config, const ModelPlacement& placement) {
  return std::make_unique<Llama3>(config, AttentionRegistry::with_builtins().make("eager"),
                                  placement);
}

std::vector<std::string> names_of(Model& model) {
  std::vector<std::string> names;
  for (const ParameterSlot& slot : model.parameters()) names.push_back(slot.name);
  return names;
}

class Llama3Stages : public ::testing::TestWithParam<bool> {};

TEST_P(Llama3Stages, OneAfterTheOtherAreTheWholeModel) {
  Llama3Config config = testing::scaled_rope_llama();
  config.tied_embeddings = GetParam();
  const auto whole = testing::make_llama3(config, "eager", at::kDouble);
  const Batch batch = testing::packed_batch({{5, 7}, {12}}, config.vocab_size);
  const AttentionMasks masks = testing::masks_of(*whole, batch);
  pipeline::WeightGradients deferred;

  at::Tensor hidden = batch.tokens_BT;
  std::vector<std::string> names;
  std::unique_ptr<Llama3> part;
  for (const StageModules& modules : kStages) {
    part = stage(config, {.stage = modules, .weight_gradients = &deferred});
    bind_flat(part->parameters(), at::kDouble);
    initialize_parameters(*part, 1);
    EXPECT_EQ(testing::masks_of(*part, batch), masks);
    hidden = part->trunk(hidden, masks, {.positions_BT = batch.positions_BT});
    EXPECT_EQ(hidden.sizes(), part->hidden_shape(2, 12));
    const std::vector<std::string> own = names_of(*part);
    names.insert(names.end(), own.begin(), own.end());
  }
  EXPECT_TRUE(at::equal(
      hidden, whole->trunk(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT})));
  EXPECT_TRUE(at::equal(part->head(hidden), testing::logits_of(*whole, batch)));
  EXPECT_TRUE(at::equal(part->head_weight(), whole->head_weight()));
  EXPECT_EQ(part->attention_sites().size(), 1U);

  std::vector<std::string> expected = names_of(*whole);
  if (config.tied_embeddings) expected.emplace_back("tok_embeddings.weight");  // the head's copy
  EXPECT_EQ(names, expected);
}

INSTANTIATE_TEST_SUITE_P(Tied, Llama3Stages, ::testing::Bool());

TEST(Llama3Stage, TiedHeadUsesTheEmbeddingOfItsRank) {
  Llama3Config config = testing::scaled_rope_llama();
  config.tied_embeddings = true;
  const auto first = stage(config, {.stage = kStages[0]});
  const auto last = stage(config, {.stage = kStages[2], .tied_embedding = first->blocks().front()});
  EXPECT_EQ(names_of(*last).back(), "norm.weight");
  bind_flat(first->parameters(), at::kDouble);
  EXPECT_TRUE(last->head_weight().is_same(*first->parameters().front().tensor));
}

TEST(Llama3Stage, RefusesWhatItDoesNotHave) {
  const Llama3Config config = testing::scaled_rope_llama();
  EXPECT_ERROR(stage(config, {.stage = StageModules{}}), "no module");
  EXPECT_ERROR(stage(config, {.stage = StageModules{.first_layer = 1, .end_layer = 4}}),
               "layers 1 to 4", "0 to 3");
  const auto middle = stage(config, {.stage = kStages[1]});
  bind_flat(middle->parameters(), at::kDouble);
  initialize_parameters(*middle, 1);
  const Batch batch = testing::packed_batch({{5, 7}}, config.vocab_size);
  const AttentionMasks masks = testing::masks_of(*middle, batch);
  EXPECT_ERROR(middle->trunk(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT}),
               "hidden states are [1, 12]", "[1, 12, 32]");
  EXPECT_ERROR(middle->head_weight(), "no head");
  EXPECT_ERROR(middle->head(at::zeros({1, 12, 32}, at::kDouble)), "no head");
}

}  // namespace
}  // namespace tessera
