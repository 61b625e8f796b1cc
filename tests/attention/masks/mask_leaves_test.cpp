// Each leaf and operator against its definition on small cases, and what it refuses.
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_fn.h"
#include "tests/attention/masks/reference_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids;

// Rows of 0 and 1, first query first.
std::vector<std::string> rows(const MaskMod& rule, int64_t num_tokens, int64_t b = 0) {
  std::vector<std::string> rows;
  for (int64_t q = 0; q < num_tokens; ++q) {
    std::string row;
    for (int64_t kv = 0; kv < num_tokens; ++kv) row += rule.allows(b, 0, q, kv) ? '1' : '0';
    rows.push_back(row);
  }
  return rows;
}

using Rows = std::vector<std::string>;

TEST(MaskLeavesTest, Windows) {
  EXPECT_EQ(rows(sliding_window({.left = 1, .right = 0}), 4),
            (Rows{"1000", "1100", "0110", "0011"}));
  EXPECT_EQ(rows(sliding_window({.left = 0, .right = 0}), 3), (Rows{"100", "010", "001"}));
  EXPECT_EQ(rows(sliding_window({.left = 1}), 4), (Rows{"1111", "1111", "0111", "0011"}));
  EXPECT_EQ(rows(sliding_window({.right = 1}), 4), (Rows{"1100", "1110", "1111", "1111"}));
  EXPECT_EQ(rows(sliding_window({}), 2), (Rows{"11", "11"}));
  EXPECT_ERROR(sliding_window({.left = -1}), "sliding_window: left: got -1", "0 to 2^46");
  EXPECT_ERROR(sliding_window({.right = -3}), "right: got -3");
}

TEST(MaskLeavesTest, ChunksRoundDown) {
  EXPECT_EQ(rows(chunked(2), 4), (Rows{"1100", "1100", "0011", "0011"}));
  // Tokens -1 and 0 are in different chunks.
  EXPECT_FALSE(chunked(3).allows(0, 0, -1, 0));
  EXPECT_TRUE(chunked(3).allows(0, 0, -1, -3));
  EXPECT_FALSE(chunked(3).allows(0, 0, -1, -4));
  EXPECT_ERROR(chunked(0), "chunked: size: got 0", "expected 1");
}

TEST(MaskLeavesTest, FirstTokensAndPrefix) {
  EXPECT_EQ(rows(first_tokens(1), 3), (Rows{"100", "100", "100"}));
  EXPECT_EQ(rows(prefix_lm(ids({3})), 5), (Rows{"11100", "11100", "11100", "11110", "11111"}));
  EXPECT_EQ(rows(prefix_lm(ids({3, 0})), 3, /*b=*/1), (Rows{"100", "110", "111"}));
  EXPECT_ERROR(first_tokens(-1), "first_tokens: n: got -1");
  EXPECT_ERROR(prefix_lm(ids({3, -1})), "prefix_lengths_B[1]: got -1");
  EXPECT_ERROR(prefix_lm(ids({3}).to(at::kInt)), "prefix_lengths_B", "Int", "int64");
  EXPECT_ERROR(prefix_lm(ids({3}).view({1, 1})), "[1, 1]", "[B]");
}

TEST(MaskLeavesTest, BlockIdsMayLieApart) {
  EXPECT_EQ(rows(block_ids(ids({-1, 0, 1, 0})), 4), (Rows{"0000", "0101", "0010", "0101"}));
  EXPECT_EQ(block_ids(ids({4, 4, 2})), block_ids(ids({0, 0, 9})));
  EXPECT_FALSE(block_ids(ids({0, 1, 0})) == block_ids(ids({0, 1, 2})));
  EXPECT_ERROR(block_ids(at::zeros({3}, at::kBool)), "block_ids: ids_BT", "Bool", "int64");
}

TEST(MaskLeavesTest, KeyPaddingIsOfKeysOnly) {
  EXPECT_EQ(rows(key_padding(ids({0, 1, 1}).eq(1)), 3), (Rows{"011", "011", "011"}));
  EXPECT_ERROR(key_padding(ids({0, 1, 1})), "key_padding: valid_BT", "Long", "bool");
  EXPECT_ERROR(key_padding(at::Tensor()), "no tensor", "bool [B, T] or [T]");
  // Queries are not covered by its tensor, so any number of them goes.
  const BlockMask mask =
      create_block_mask(key_padding(at::ones({2}, at::kBool)), {.q_len = 9, .kv_len = 2});
  EXPECT_TRUE(mask.is_full());
}

TEST(MaskLeavesTest, OffsetsShiftIndices) {
  const MaskMod decode = offset(causal(), 4, 0);
  EXPECT_TRUE(decode.allows(0, 0, 0, 4));
  EXPECT_FALSE(decode.allows(0, 0, 0, 5));
  const MaskMod shifted = offset(document(ids({0, 0, 1, 1})), 2, 1);
  EXPECT_EQ(shifted.covered_queries(), (TokenRange{-2, 2}));
  EXPECT_EQ(shifted.covered_keys(), (TokenRange{-1, 3}));
  EXPECT_ERROR(create_block_mask(shifted, {.q_len = 3, .kv_len = 3}), "q_len: got 3", "-2 to 2");
  EXPECT_ERROR(offset(causal(), int64_t{1} << 47, 0), "offset", "2^46");
  EXPECT_EQ(shifted.to_string(), "offset(document, q=2, kv=1)");
  EXPECT_FALSE(offset(causal(), 1, 0) == offset(causal(), 0, 1));
}

TEST(MaskLeavesTest, PerDocumentCountsFromTheStart) {
  const at::Tensor packed = ids({0, 0, 1, 1, 1, 1});
  EXPECT_EQ(rows(per_document(causal() & chunked(3), packed), 6),
            (Rows{"100000", "110000", "001000", "001100", "001110", "000001"}));
  EXPECT_EQ(rows(causal() & chunked(3) & document(packed), 6),
            (Rows{"100000", "110000", "001000", "000100", "000110", "000111"}));
  EXPECT_ERROR(per_document(key_padding(at::ones({3}, at::kBool)), packed), "document of 4 tokens",
               "at most 3", "key_padding");
  EXPECT_ERROR(per_document(prefix_lm(ids({1, 2})), packed.expand({3, 6})), "batch rows", "3", "2");
}

TEST(MaskLeavesTest, MaskFnIsKnownByNameAndParameters) {
  const auto even = [](int64_t, int64_t, int64_t q, int64_t kv) { return (q - kv) % 2 == 0; };
  const MaskMod rule = mask_fn("dilated", {{"step", 2}}, even);
  EXPECT_EQ(rows(rule, 4), (Rows{"1010", "0101", "1010", "0101"}));
  EXPECT_EQ(rule.to_string(), "dilated(step=2)");
  EXPECT_EQ(rule, mask_fn("dilated", {{"step", 2}}, even));
  EXPECT_FALSE(rule == mask_fn("dilated", {{"step", 3}}, even));
  EXPECT_FALSE(rule == mask_fn("other", {{"step", 2}}, even));
  EXPECT_EQ(rule.allowed_keys(0, 0, 3, {0, 4}), (RangeSet{{1, 2}, {3, 4}}));
  EXPECT_EQ(rule.classify(0, 0, {0, 1}, {0, 1}), TileVerdict::kMixed);
  EXPECT_EQ((rule & none()).classify(0, 0, {0, 1}, {0, 1}), TileVerdict::kEmpty);
  EXPECT_ERROR(mask_fn("two words", {}, even), "mask_fn: name", "two words");
  EXPECT_ERROR(mask_row_fn("none", {}, nullptr), "\"none\": got none");
}

// A predicate is asked for every batch row and head of the shape.
TEST(MaskLeavesTest, MaskFnSeesBatchAndHead) {
  const MaskMod rule = mask_fn("per_head", {}, [](int64_t b, int64_t h, int64_t q, int64_t kv) {
    return q - kv < (b + 1) << h;
  });
  const BlockMask mask = create_block_mask(
      causal() & rule, {.batch = 2, .heads = 2, .q_len = 70, .kv_len = 70, .block = {16, 16}});
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 2; ++h) {
      EXPECT_TRUE(mask.allows(b, h, 69, 70 - ((b + 1) << h)));
      EXPECT_FALSE(mask.allows(b, h, 69, 69 - ((b + 1) << h)));
    }
  }
}

// Tiles that the rest of the rule decides are never asked.
TEST(MaskLeavesTest, MaskFnIsNotAskedWhereTheRuleIsDecided) {
  std::atomic<int64_t> num_asked = 0;
  const MaskMod counting =
      mask_row_fn("counting", {}, [&](int64_t, int64_t, int64_t, TokenRange keys, uint64_t* bits) {
        num_asked += keys.size();
        std::fill(bits, bits + (keys.size() + 63) / 64, 0);
      });
  const MaskShape shape{.q_len = 1024, .kv_len = 1024};
  create_block_mask(causal() & counting, shape);
  EXPECT_EQ(num_asked, 36 * 128 * 128);  // the lower triangle of 8 x 8 tiles
  num_asked = 0;
  create_block_mask(causal() | counting, shape);
  EXPECT_EQ(num_asked, 36 * 128 * 128);  // the upper one, with the diagonal
  num_asked = 0;
  create_block_mask(none() & counting, shape);
  create_block_mask(full() | counting, shape);
  EXPECT_EQ(num_asked, 0);
}

}  // namespace
}  // namespace tessera
