#include <gtest/gtest.h>

#include "attention/registry/registry.h"
#include "models/llama3/llama3.h"
#include "models/registry.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

struct FlavorCase {
  const char* name;
  int64_t ffn_dim, num_parameters, flops_2048, flops_8192;
  bool tied;
};

// Counts from TorchTitan's formulas (reference: get_dense_model_nparams_and_flops), computed apart
// in Python.
constexpr FlavorCase kFlavors[] = {
    {"debugmodel", 768, 6163712, 71585280, 184831488, false},
    {"1B", 8192, 1235814400, 8220192768, 10636111872, true},
    {"3B", 8192, 3212749824, 21390428160, 27732215808, true},
    {"8B", 14336, 8030261248, 48250773504, 57914449920, false},
    {"70B", 28672, 70553706496, 433124327424, 481442709504, false},
    {"405B", 53248, 405853388800, 2473246556160, 2625449459712, false},
};

TEST(Llama3Flavors, CountsOfEveryFlavor) {
  const AttentionOp attention = AttentionRegistry::with_builtins().make("sdpa");
  std::vector<std::string> names;
  for (const FlavorCase& c : kFlavors) {
    const Llama3Config config = llama3_flavor(c.name);
    Llama3 model(config, attention);
    EXPECT_EQ(config.ffn_dim, c.ffn_dim) << c.name;
    EXPECT_EQ(config.tied_embeddings, c.tied) << c.name;
    EXPECT_EQ(model.num_parameters(), c.num_parameters) << c.name;
    EXPECT_EQ(config.num_parameters(), c.num_parameters) << c.name;
    EXPECT_EQ(model.num_flops_per_token(2048), c.flops_2048) << c.name;
    EXPECT_EQ(model.num_flops_per_token(8192), c.flops_8192) << c.name;
    EXPECT_EQ(model.description(), std::string("llama3 ") + c.name);
    names.push_back(c.name);
  }
  EXPECT_EQ(llama3_flavors(), names);
}

// 1.6 TB of weights: on the meta device there is nothing to allocate.
TEST(Llama3Flavors, LargestModelIsBuiltWithoutStorage) {
  Llama3 model(llama3_flavor("405B"), AttentionRegistry::with_builtins().make("sdpa"));
  const std::vector<ParameterSlot> slots = model.parameters();
  EXPECT_EQ(slots.size(), 126u * 9 + 3);
  for (const ParameterSlot& slot : slots) EXPECT_TRUE(slot.tensor->is_meta()) << slot.name;
}

TEST(Llama3Flavors, FlexNamesAreTheBlockCausalVariants) {
  for (const std::string name : {"8B_flex_attn", "8B_flex", "debugmodel_flex_attn"}) {
    const Llama3Config config = llama3_flavor(name);
    EXPECT_EQ(config.flavor, name);
    EXPECT_EQ(config.mask_rule, "causal & document");
    EXPECT_EQ(config.dim, name[0] == '8' ? 4096 : 256);
  }
}

TEST(Llama3Flavors, RopeScaling) {
  EXPECT_EQ(llama3_flavor("8B").rope_scaling, RopeScaling{});
  EXPECT_EQ(llama3_flavor("debugmodel").rope_scaling, RopeScaling{});
  EXPECT_EQ(llama3_flavor("1B").rope_scaling->factor, 32.0);
  EXPECT_EQ(llama3_flavor("3B").rope_scaling->factor, 32.0);
}

TEST(Llama3Flavors, FfnDim) {
  EXPECT_EQ(llama3_ffn_dim(256, 1.0, 256), 768);
  EXPECT_EQ(llama3_ffn_dim(4096, 1.3, 1024), 14336);
  EXPECT_EQ(llama3_ffn_dim(384, 1.0, 256), 1024);  // 8 * 384 / 3 is a multiple already
}

TEST(Llama3Flavors, Errors) {
  EXPECT_ERROR(llama3_flavor("9B"), "model.flavor", "'9B'", "debugmodel, 1B, 3B, 8B, 70B, 405B");
  const auto check = [](auto change) {
    Llama3Config config;
    change(config);
    config.check();
  };
  EXPECT_ERROR(check([](auto& c) { c.n_layers = 0; }), "n_layers is 0", "> 0");
  EXPECT_ERROR(check([](auto& c) { c.vocab_size = -5; }), "vocab_size is -5");
  EXPECT_ERROR(check([](auto& c) { c.n_kv_heads = 3; }), "n_heads is 16", "n_kv_heads", "3");
  EXPECT_ERROR(check([](auto& c) { c.head_dim = 15; }), "head_dim is 15", "even");
  EXPECT_ERROR(check([](auto& c) { c.norm_eps = 0; }), "norm_eps is 0");
  EXPECT_ERROR(check([](auto& c) { c.rope_theta = -1; }), "rope_theta is -1");
  EXPECT_ERROR(check([](auto& c) { c.rope_scaling->factor = 0.5; }), "rope_scaling.factor is 0.5");
  EXPECT_ERROR(check([](auto& c) { c.rope_scaling->low_freq_factor = 4; }), "low_freq_factor is 4",
               "low < high");
  EXPECT_ERROR(check([](auto& c) { c.mask_rule = "causal &"; }), "column");
}

}  // namespace
}  // namespace tessera
