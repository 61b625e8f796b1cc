#include "attention/registry/mask_registry.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/support/errors.h"

namespace tessera {
namespace {

MaskRule dilated_rule() {
  return {.name = "dilated",
          .description = "every step-th key",
          .parameters = {{"step"}},
          .make = [](const MaskArguments& arguments, const MaskContext&) {
            const int64_t step = *arguments.get("step");
            TORCH_CHECK(step >= 1, "dilated: step: got ", step, ", expected at least 1");
            return mask_fn(
                "dilated", arguments.values,
                [step](int64_t, int64_t, int64_t q, int64_t kv) { return (q - kv) % step == 0; });
          }};
}

TEST(MaskRegistryTest, ParsesRulesOfUsers) {
  MaskRegistry registry = MaskRegistry::with_builtins();
  registry.add_rule(dilated_rule());
  const MaskMod rule = parse_mask("causal & dilated(step=3)", {}, registry);
  EXPECT_TRUE(rule.allows(0, 0, 7, 4));
  EXPECT_FALSE(rule.allows(0, 0, 7, 5));
  EXPECT_EQ(rule.to_string(), "causal & dilated(step=3)");
  EXPECT_EQ(parse_mask(rule.to_string(), {}, registry), rule);
  check_mask_syntax("dilated(2)", registry);
  EXPECT_ERROR(parse_mask("dilated(step=0)", {}, registry), "column 1", "dilated: step: got 0");
  EXPECT_ERROR(parse_mask("dilated", {}, registry), "value for \"step\"");
  // Other registries do not know it.
  EXPECT_ERROR(parse_mask("dilated(step=3)", {}), "found \"dilated\"");
}

TEST(MaskRegistryTest, RefusesBadEntries) {
  MaskRegistry registry = MaskRegistry::with_builtins();
  EXPECT_ERROR(registry.add_rule({.name = "causal", .make = dilated_rule().make}), "\"causal\"",
               "not taken", "window");
  EXPECT_ERROR(registry.add_rule({.name = "a b", .make = dilated_rule().make}), "\"a b\"");
  EXPECT_ERROR(registry.add_rule({.name = "mine", .make = nullptr}), "\"mine\": got none");
  EXPECT_ERROR(registry.add_form({.name = "none", .build = registry.form("block").build}),
               "\"none\"", "block, none");
  EXPECT_ERROR(registry.add_form({.name = "", .build = registry.form("block").build}), "\"\"");
  EXPECT_ERROR(registry.add_form({.name = "mine", .build = nullptr}), "\"mine\": got none");
  EXPECT_ERROR(registry.form("dense"), "got \"dense\"", "block, none");
  EXPECT_ERROR(registry.create_mask_fn("dense", {}), "got \"dense\"");
}

TEST(MaskRegistryTest, FormNoneAsksNoRule) {
  std::atomic<int64_t> num_asked = 0;  // rows are asked for by several threads
  const MaskMod counting =
      mask_row_fn("counting", {}, [&](int64_t, int64_t, int64_t, TokenRange keys, uint64_t* bits) {
        ++num_asked;
        std::fill(bits, bits + (keys.size() + 63) / 64, 0);
      });
  const MaskShape shape{.batch = 2, .q_len = 300, .kv_len = 200};
  const MaskRegistry registry = MaskRegistry::with_builtins();
  const BlockMask mask = registry.create_mask_fn("none", {})(causal() & counting, shape);
  EXPECT_EQ(num_asked.load(), 0);
  EXPECT_TRUE(mask.is_full());
  EXPECT_EQ(mask.shape(), shape);
  registry.create_mask_fn("block", {})(causal() & counting, shape);
  EXPECT_GT(num_asked.load(), 0);
}

// A form sees the model's configuration and decides what is built: here, every mask of the model
// becomes that of a prefix language model inside the configured chunk.
TEST(MaskRegistryTest, FormsReceiveTheConfiguration) {
  MaskRegistry registry = MaskRegistry::with_builtins();
  registry.add_form(
      {.name = "chunks_only",
       .build = [](const MaskMod& rule, const MaskShape& shape, const MaskConfig& config) {
         return create_block_mask(rule & chunked(*config.attention_chunk_size), shape);
       }});
  const CreateMaskFn create_mask_fn =
      registry.create_mask_fn("chunks_only", {.attention_chunk_size = 4});
  const MaskShape shape{.q_len = 10, .kv_len = 10};
  EXPECT_EQ(create_mask_fn(causal(), shape), create_block_mask(causal() & chunked(4), shape));
}

}  // namespace
}  // namespace tessera
