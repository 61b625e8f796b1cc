#include "models/registry.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "data/tokenizers/byte_tokenizer.h"
#include "models/llama3/llama3.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

const Llama3Config& config_of(const std::unique_ptr<Model>& model) {
  return dynamic_cast<const Llama3&>(*model).config();
}

TEST(ModelRegistry, MakesWhatIsAskedFor) {
  const AttentionRegistry attention = AttentionRegistry::with_builtins();
  const auto model =
      make_model({.flavor = "8B", .attention = "eager", .max_seq_len = 512}, attention);
  EXPECT_EQ(model->description(), "llama3 8B");
  EXPECT_EQ(config_of(model).max_seq_len, 512);
  EXPECT_EQ(config_of(model).mask_rule, "causal & document");
}

TEST(ModelRegistry, MaskRuleComesFromTypeOrString) {
  const AttentionRegistry attention = AttentionRegistry::with_builtins();
  EXPECT_EQ(config_of(make_model({.attn_mask_type = "causal"}, attention)).mask_rule, "causal");
  EXPECT_EQ(config_of(make_model({.flavor = "debugmodel_flex_attn"}, attention)).mask_rule,
            "causal & document");
  EXPECT_EQ(config_of(make_model({.mask = "document"}, attention)).mask_rule, "document");
}

TEST(ModelRegistry, MaskRulesMayBeOnesOfUsers) {
  const AttentionRegistry attention = AttentionRegistry::with_builtins();
  MaskRegistry masks = MaskRegistry::with_builtins();
  masks.add_rule({.name = "itself", .make = [](const MaskArguments&, const MaskContext&) {
                    return sliding_window({.left = 0, .right = 0});
                  }});
  const auto model = make_model({.mask = "itself", .mask_registry = masks}, attention);
  Batch batch;
  batch.tokens_BT = at::zeros({1, 4}, at::kLong);
  batch.document_ids_BT = batch.tokens_BT;
  const AttentionMasks built = model->get_attention_masks(
      [](const MaskMod& rule, const MaskShape& shape) { return create_block_mask(rule, shape); },
      batch, ByteTokenizer(), Extras());
  EXPECT_EQ(built.at("global").num_pairs(), 4);
  EXPECT_ERROR(make_model({.mask = "itself"}, attention), "model.mask", "itself");
}

TEST(ModelRegistry, ListsNames) {
  EXPECT_EQ(model_names(), std::vector<std::string>{"llama3"});
  EXPECT_EQ(model_flavors("llama3"), llama3_flavors());
}

TEST(ModelRegistry, Errors) {
  const AttentionRegistry attention = AttentionRegistry::with_builtins();
  EXPECT_ERROR(make_model({.name = "lama"}, attention), "model.name", "'lama'", "llama3");
  EXPECT_ERROR(model_flavors("lama"), "'lama'", "llama3");
  EXPECT_ERROR(make_model({.flavor = "9B"}, attention), "'9B'", "debugmodel");
  EXPECT_ERROR(make_model({.attention = "sdpb"}, attention), "sdpb", "sdpa", "eager");
  EXPECT_ERROR(make_model({.attention = "flex, sliding=sdpa"}, attention), "\"sliding\"", "global");
  EXPECT_ERROR(make_model({.attn_mask_type = "blok"}, attention), "model.attn_mask_type", "'blok'",
               "causal or block_causal");
  EXPECT_ERROR(make_model({.mask = "causal & dokument"}, attention), "model.mask", "dokument");
  EXPECT_ERROR(make_model({.flavor = "8B_flex_attn", .attn_mask_type = "causal"}, attention),
               "'8B_flex_attn'", "attn_mask_type", "'causal'");
  EXPECT_ERROR(make_model({.max_seq_len = 0}, attention), "max_seq_len is 0");
}

}  // namespace
}  // namespace tessera
