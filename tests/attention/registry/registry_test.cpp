#include "attention/registry/registry.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

AttentionOutput zeros(const at::Tensor& q_BTHD, const at::Tensor&, const at::Tensor&,
                      const BlockMask&, const AttentionOptions&) {
  return {.out_BTHE = at::zeros_like(q_BTHD)};
}

TEST(AttentionRegistryTest, HasTheBuiltins) {
  const AttentionRegistry registry = AttentionRegistry::with_builtins();
  EXPECT_THAT(registry.names(), ElementsAre("eager", "flex", "sdpa"));
  EXPECT_FALSE(registry.get("sdpa").description.empty());
  EXPECT_EQ(registry.make("sdpa").name(), "sdpa");
}

TEST(AttentionRegistryTest, TakesNewBackendsAndKeepsToItself) {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.add({.name = "mine", .description = "zeros", .function = zeros});
  EXPECT_THAT(registry.names(), ElementsAre("eager", "flex", "sdpa", "mine"));
  EXPECT_EQ(registry.get("mine").description, "zeros");
  const at::Tensor x = at::zeros({1, 2, 1, 4});
  const BlockMask mask = create_block_mask(full(), {.q_len = 2, .kv_len = 2});
  EXPECT_TRUE(registry.make("mine")(x + 1, x, x, mask).out_BTHE.equal(x));
  EXPECT_THAT(AttentionRegistry::with_builtins().names(), ElementsAre("eager", "flex", "sdpa"));
}

TEST(AttentionRegistryTest, KnowsBackendsByOtherNames) {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  EXPECT_EQ(registry.make("flex_attention").name(), "flex");
  EXPECT_EQ(registry.make("flash_attention_2").name(), "flex");
  EXPECT_EQ(registry.get("flash_attention_2").name, "flex");
  registry.add({.name = "mine", .function = zeros, .aliases = {"ours"}});
  EXPECT_EQ(registry.make("ours").name(), "mine");
  EXPECT_ERROR(registry.add({.name = "ours", .function = zeros}), "\"ours\"", "not taken");
  EXPECT_ERROR(registry.add({.name = "other", .function = zeros, .aliases = {"sdpa"}}), "\"sdpa\"",
               "not taken");
}

struct ScaleArgs {
  double factor = 1.0;
};

AttentionOutput scaled_values(const at::Tensor&, const at::Tensor&, const at::Tensor& v_BSKE,
                              const BlockMask&, const AttentionOptions& options) {
  return {.out_BTHE = v_BSKE * options.typed<ScaleArgs>().factor};
}

AttentionRegistry registry_with_scaled() {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.add({.name = "scaled",
                .function = scaled_values,
                .signature = AttentionSignature::of<ScaleArgs>({{"factor", &ScaleArgs::factor}})});
  return registry;
}

TEST(AttentionRegistryTest, ArgumentsReachTheFunctionAsItsStruct) {
  const AttentionRegistry registry = registry_with_scaled();
  const at::Tensor x = at::ones({1, 2, 1, 4});
  const BlockMask mask = create_block_mask(full(), {.q_len = 2, .kv_len = 2});
  const auto factor = [&](const AttentionOp& op, const AttentionArgs& args) {
    return op(x, x, x, mask, {.args = args}).out_BTHE.mean().item<double>();
  };
  EXPECT_EQ(factor(registry.make("scaled"), {}), 1);
  EXPECT_EQ(factor(registry.make("scaled(factor=3)"), {}), 3);
  EXPECT_EQ(factor(registry.make("scaled(factor=3)"), {{"factor", 0.5}}), 0.5);
  EXPECT_ERROR(registry.make("scaled(factr=3)"), "\"scaled\"", "\"factr\"", "one of: factor");
  EXPECT_ERROR(factor(registry.make("scaled"), {{"factr", 0.5}}), "\"factr\"");
  EXPECT_ERROR(registry.make("sdpa(factor=3)"), "\"sdpa\"", "\"factor\"", "one of: none");
  EXPECT_ERROR(factor(registry.make("sdpa"), {{"factor", 0.5}}), "\"sdpa\"", "\"factor\"");
  EXPECT_ERROR(scaled_values(x, x, x, mask, {}), "typed", "bypassed AttentionOp");
}

TEST(AttentionRegistryTest, MakesOpsForTheParts) {
  const AttentionRegistry registry = registry_with_scaled();
  const std::vector<std::string> kinds{"global", "sliding"};
  const auto names = [&](const std::string& choices) {
    std::vector<std::string> names;
    for (const auto& [kind, op] : registry.make_kinds(choices, kinds)) {
      names.push_back(kind + "=" + op.name());
    }
    return names;
  };
  EXPECT_THAT(names("flex_attention"), ElementsAre("global=flex", "sliding=flex"));
  EXPECT_THAT(names("flex, sliding=scaled(factor=2)"),
              ElementsAre("global=flex", "sliding=scaled"));
  EXPECT_THAT(names("sliding=sdpa, global=eager"), ElementsAre("global=eager", "sliding=sdpa"));
  EXPECT_ERROR(names("sliding=sdpa"), "no choice for kind \"global\"", "global, sliding");
  EXPECT_ERROR(names("flex, slidign=sdpa"), "\"slidign\"", "global, sliding");
  EXPECT_ERROR(names("flex, sliding=flash"), "\"flash\"", "one of: eager, flex, sdpa, scaled");
  EXPECT_ERROR(registry.make("global=flex"), "one backend for all kinds of layer");
}

TEST(AttentionRegistryTest, PartsShareOneMaskForm) {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.add({.name = "own_pattern", .function = zeros, .mask_form = "none"});
  EXPECT_EQ(registry.mask_form("flex, sliding=sdpa"), "block");
  EXPECT_EQ(registry.mask_form("own_pattern"), "none");
  EXPECT_EQ(registry.make("own_pattern").mask_form(), "none");
  EXPECT_ERROR(registry.make_kinds("flex, sliding=own_pattern", {"global", "sliding"}), "mask form",
               "\"block\" of flex", "\"none\" of own_pattern");
}

TEST(AttentionRegistryTest, RefusesBadEntriesAndUnknownNames) {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  EXPECT_ERROR(registry.add({.name = "", .description = "", .function = zeros}), "name", "\"\"");
  EXPECT_ERROR(registry.add({.name = "a-b", .function = zeros}), "name", "\"a-b\"");
  EXPECT_ERROR(registry.add({.name = "sdpa", .description = "", .function = zeros}), "\"sdpa\"",
               "not taken", "eager, flex, sdpa");
  EXPECT_ERROR(registry.add({.name = "mine", .description = "", .function = nullptr}), "\"mine\"",
               "function");
  EXPECT_ERROR(registry.get("nothing"), "\"nothing\"", "one of: eager, flex, sdpa");
  EXPECT_ERROR(registry.make("nothing"), "\"nothing\"", "one of: eager, flex, sdpa");
}

}  // namespace
}  // namespace tessera
