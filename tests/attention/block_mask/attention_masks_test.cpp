#include "attention/block_mask/attention_masks.h"

#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

BlockMask packed_mask() {
  const at::Tensor ids_BT = at::tensor(std::vector<int64_t>{0, 0, 1, 0, 1, 1}).view({2, 3});
  return create_block_mask(causal() & document(ids_BT), {.batch = 2, .q_len = 3, .kv_len = 3});
}

TEST(AttentionMasksTest, FindsMasksByName) {
  const BlockMask global = create_block_mask(causal(), {.q_len = 3, .kv_len = 3});
  AttentionMasks masks{{"global", global}};
  masks.insert("packed", packed_mask());
  EXPECT_EQ(masks.at("global"), global);
  EXPECT_EQ(masks.at("packed"), packed_mask());
  EXPECT_TRUE(masks.contains("packed"));
  EXPECT_FALSE(masks.contains("sliding"));
  EXPECT_EQ(masks.size(), 2U);
  EXPECT_THAT(masks.names(), ElementsAre("global", "packed"));
  EXPECT_ERROR(masks.at("sliding"), "\"sliding\"", "global, packed");
  EXPECT_ERROR(masks.insert("global", global), "\"global\"", "not taken");
  EXPECT_ERROR((AttentionMasks{{"a", global}, {"a", global}}), "\"a\"");
}

TEST(AttentionMasksTest, SplitActsOnEveryMember) {
  const BlockMask global = create_block_mask(causal(), {.q_len = 3, .kv_len = 3});
  const AttentionMasks masks{{"global", global}, {"packed", packed_mask()}};
  const std::vector<AttentionMasks> parts = masks.split({1, 1});
  ASSERT_EQ(parts.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_THAT(parts[i].names(), ElementsAre("global", "packed"));
    EXPECT_EQ(parts[i].at("global"), global);
    EXPECT_EQ(parts[i].at("packed"), packed_mask().split({1, 1})[i]);
  }
  EXPECT_FALSE(parts[0] == parts[1]);
  EXPECT_EQ(parts[0], masks.split({1, 1})[0]);
  EXPECT_ERROR(masks.split({1, 2}), "batch_sizes", "sum of 3");
}

TEST(AttentionMasksTest, RowsLeaveOutSequencesOfAModelsOwn) {
  const BlockMask patches = create_block_mask(
      full(), {.batch = 2, .q_len = 3, .kv_len = 3, .sequence = MaskSequence::kOwn});
  EXPECT_FALSE(patches == create_block_mask(full(), {.batch = 2, .q_len = 3, .kv_len = 3}));
  const AttentionMasks masks{{"encoder", patches}, {"packed", packed_mask()}};
  EXPECT_THAT(masks.of_rows().names(), ElementsAre("packed"));
  for (const AttentionMasks& part : masks.split({1, 1})) {
    EXPECT_EQ(part.at("encoder").shape().sequence, MaskSequence::kOwn);
    EXPECT_THAT(part.of_rows().names(), ElementsAre("packed"));
  }
}

}  // namespace
}  // namespace tessera
