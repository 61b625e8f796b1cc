#include "attention/registry.h"

#include <ATen/TensorOperators.h>
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

TEST(AttentionRegistryTest, RefusesBadEntriesAndUnknownNames) {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  EXPECT_ERROR(registry.add({.name = "", .description = "", .function = zeros}), "name", "\"\"");
  EXPECT_ERROR(registry.add({.name = "sdpa", .description = "", .function = zeros}), "\"sdpa\"",
               "not taken", "eager, flex, sdpa");
  EXPECT_ERROR(registry.add({.name = "mine", .description = "", .function = nullptr}), "\"mine\"",
               "function");
  EXPECT_ERROR(registry.get("nothing"), "\"nothing\"", "one of: eager, flex, sdpa");
  EXPECT_ERROR(registry.make("nothing"), "\"nothing\"", "one of: eager, flex, sdpa");
}

}  // namespace
}  // namespace tessera
