#include "attention/op/attention_watch.h"

#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attention/registry/registry.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

struct Log {
  std::vector<std::string> lines;
  std::shared_ptr<AttentionWatch> watch() {
    return std::make_shared<AttentionWatch>(
        [this](const AttentionUse& use) { lines.push_back(to_string(use)); });
  }
};

TEST(AttentionWatchTest, TellsOfEachKernelAndShapeOnce) {
  Log log;
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  const AttentionOp silent = registry.make("sdpa");
  registry.set_watch(log.watch());
  const AttentionOp first = registry.make("sdpa");
  const AttentionOp second = registry.make("sdpa");
  const auto attend = [](const AttentionOp& op, int64_t tokens, const MaskMod& rule) {
    const at::Tensor q = at::randn({1, tokens, 4, 8});
    const at::Tensor kv = at::randn({1, tokens, 2, 8});
    op(q, kv, kv, create_block_mask(rule, {.q_len = tokens, .kv_len = tokens}));
  };
  attend(silent, 6, causal());
  EXPECT_TRUE(log.lines.empty());
  attend(first, 6, causal());
  attend(second, 6, causal());
  attend(first, 6, sliding_window({.left = 2, .right = 0}));
  attend(first, 5, full());
  EXPECT_THAT(log.lines,
              ElementsAre("attention: sdpa (is_causal) for q [1, 6, 4, 8], k and v [1, 6, 2, 8], "
                          "Float",
                          "attention: sdpa (additive mask) for q [1, 6, 4, 8], k and v "
                          "[1, 6, 2, 8], Float",
                          "attention: sdpa (no mask) for q [1, 5, 4, 8], k and v [1, 5, 2, 8], "
                          "Float"));
}

TEST(AttentionWatchTest, NamesTheInstructionSetOfFlexAndOtherValueDims) {
  Log log;
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.set_watch(log.watch());
  const at::Tensor x = at::randn({1, 6, 4, 8});
  const at::Tensor v = at::randn({1, 6, 4, 5});
  registry.make("flex_attention")(x, x, v, create_block_mask(causal(), {.q_len = 6, .kv_len = 6}));
  ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0].find("attention: flex (block-sparse, "), 0U) << log.lines[0];
  EXPECT_NE(log.lines[0].find("k [1, 6, 4, 8], v [1, 6, 4, 5]"), std::string::npos);
}

}  // namespace
}  // namespace tessera
