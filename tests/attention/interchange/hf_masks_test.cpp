// The builders against the table T1 to T31 of what Hugging Face's masks do. Masks are written as
// rows of 0 and 1, first query first. Deliberate differences say so.
#include "attention/interchange/hf_masks.h"

#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/attention/interchange/hf_mask_cases.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::bits;
using testing::cached;
using testing::chunks;
using testing::digits;
using testing::packed;
using testing::padded;
using testing::rows;
using testing::sliding;
using testing::tokens;
using testing::with_blocks;

constexpr const char* kCausal5 = "10000 11000 11100 11110 11111";

TEST(HfMasksTest, T1Causal) {
  EXPECT_EQ(rows(causal_mask({}, tokens(5))), kCausal5);
  EXPECT_TRUE(causal_mask({}, tokens(5)).is_causal());
}

TEST(HfMasksTest, T2SlidingWindowCausalSeesWKeys) {
  const auto sliding_rows = [](int64_t window) {
    return rows(sliding_window_causal_mask(sliding(window), tokens(5)));
  };
  EXPECT_EQ(sliding_rows(3), "10000 11000 11100 01110 00111");
  EXPECT_EQ(sliding_rows(1), "10000 01000 00100 00010 00001");
  EXPECT_EQ(sliding_rows(5), kCausal5);
  EXPECT_EQ(sliding_rows(6), kCausal5);
}

TEST(HfMasksTest, T3Chunked) {
  EXPECT_EQ(rows(chunked_causal_mask(chunks(3), tokens(5))), "10000 11000 11100 00010 00011");
}

TEST(HfMasksTest, T4ChunksStartAfterLeftPadding) {
  const BlockMask mask = chunked_causal_mask(chunks(3), padded("00001111 11111111"));
  EXPECT_EQ(rows(mask, 0),
            "00000000 00000000 00000000 00000000 00001000 00001100 00001110 00000001");
  EXPECT_EQ(rows(mask, 1),
            "10000000 11000000 11100000 00010000 00011000 00011100 00000010 00000011");
}

TEST(HfMasksTest, T5ChunksAfterLeftPaddingInACache) {
  const CacheState cache{.num_seen = 8};
  EXPECT_EQ(cache_sizes(cache, 4, 1), (CacheSizes{.kv_length = 4, .kv_offset = 5, .q_offset = 8}));
  MaskInputs inputs = cached(cache, 4, 1);
  inputs.geometry.batch = 2;
  inputs.valid_BT = bits("000000011 111111111");
  const BlockMask mask = chunked_causal_mask(chunks(4), inputs);
  EXPECT_EQ(rows(mask, 0), "0011");
  EXPECT_EQ(rows(mask, 1), "0001");
}

TEST(HfMasksTest, T6DocumentsFromPositions) {
  const at::Tensor positions_BT = digits("0123010123 0123450123");
  EXPECT_TRUE(document_ids_from_positions(positions_BT).equal(digits("0000112222 0000001111")));
}

TEST(HfMasksTest, T7PackedCausal) {
  const BlockMask mask = causal_mask({}, packed("0123010123 0123450123"));
  EXPECT_EQ(rows(mask, 0),
            "1000000000 1100000000 1110000000 1111000000 0000100000 0000110000 0000001000 "
            "0000001100 0000001110 0000001111");
  EXPECT_EQ(rows(mask, 1),
            "1000000000 1100000000 1110000000 1111000000 1111100000 1111110000 0000001000 "
            "0000001100 0000001110 0000001111");
}

// Never null: where HF gives None, the mask says that it is causal.
TEST(HfMasksTest, T8PlainPositionsAreCausal) {
  MaskInputs inputs = packed("0123456789");
  inputs.geometry.batch = 2;
  const BlockMask mask = causal_mask({}, inputs);
  EXPECT_TRUE(mask.is_causal());
  EXPECT_EQ(mask.shape().q_len, 10);
}

// One rule for all backends. HF's FlashAttention path looks for position 0 in batches of one row
// instead: it finds no second document in 0124, loses the first three tokens of 34501, and none of
// two rows.
TEST(HfMasksTest, T9DocumentRuleIsADifferenceOtherThanOne) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"567", "000"},   {"000", "012"},     {"01200", "00012"},
      {"0124", "0001"}, {"34501", "00011"}, {"0101 0123", "0011 0000"}};
  for (const auto& [positions, ids] : cases) {
    SCOPED_TRACE(positions);
    EXPECT_TRUE(document_ids_from_positions(digits(positions)).equal(digits(ids)));
  }
  EXPECT_TRUE(causal_mask({}, packed("567")).is_causal());
}

TEST(HfMasksTest, T10PackedSliding) {
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(2), packed("0123012"))),
            "1000000 1100000 0110000 0011000 0000100 0000110 0000011");
}

TEST(HfMasksTest, T11ChunksRestartInEachDocument) {
  EXPECT_EQ(rows(chunked_causal_mask(chunks(3), packed("010123"))),
            "100000 110000 001000 001100 001110 000001");
}

TEST(HfMasksTest, T12BidirectionalSlidingIsInclusive) {
  const BlockMask mask = bidirectional_sliding_window_mask(sliding(1), tokens(5));
  EXPECT_EQ(rows(mask), "11000 11100 01110 00111 00011");
}

TEST(HfMasksTest, T13PaddingClearsKeysOnly) {
  const BlockMask mask = causal_mask({}, padded("11100 00111"));
  EXPECT_EQ(rows(mask, 0), "10000 11000 11100 11100 11100");
  EXPECT_EQ(rows(mask, 1), "00000 00000 00100 00110 00111");
}

// HF's eager form holds finfo.min where masked, so that an empty row is a mean over all keys. Ours
// holds -inf, and attention gives 0 for an empty row.
TEST(HfMasksTest, T14AdditiveIsMinusInfinity) {
  const BlockMask mask = causal_mask({}, padded("11100 00111"));
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
    const at::Tensor additive = mask.to_additive(dtype);
    EXPECT_EQ(additive.sizes(), (std::vector<int64_t>{2, 1, 5, 5}));
    EXPECT_TRUE(additive.eq(0).equal(mask.to_dense()));
    EXPECT_TRUE(additive.eq(-std::numeric_limits<double>::infinity()).equal(~mask.to_dense()));
  }
}

TEST(HfMasksTest, T15BlocksAreOredOntoCausal) {
  EXPECT_EQ(rows(causal_mask({}, with_blocks("..000."))),
            "100000 110000 111110 111110 111110 111111");
}

TEST(HfMasksTest, T16TwoImages) {
  const at::Tensor ids_BT = image_block_ids(digits("011011"));
  EXPECT_TRUE(ids_BT.equal(digits(".00.11")));
  MaskInputs inputs = tokens(6);
  inputs.block_sequence_ids_BT = ids_BT;
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100000 111000 111000 111100 111111 111111");
  EXPECT_TRUE(image_block_ids(digits("102 020"), {1, 2}).equal(digits("0.1 .0.")));
}

TEST(HfMasksTest, T17PrefixLm) {
  MaskInputs inputs = tokens(5);
  inputs.block_sequence_ids_BT = prefix_block_ids(digits("00011"));
  EXPECT_TRUE(inputs.block_sequence_ids_BT.equal(digits("000..")));
  EXPECT_EQ(rows(causal_mask({}, inputs)), "11100 11100 11100 11110 11111");
}

TEST(HfMasksTest, T18BlocksAfterTheWindow) {
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(2), with_blocks(".0000."))),
            "100000 111110 011110 011110 011110 000011");
}

TEST(HfMasksTest, T19BlocksWithinTheWindow) {
  MaskInputs inputs = with_blocks(".0000.");
  inputs.blocks_within_window = true;
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(2), inputs)),
            "100000 111110 011110 001110 000110 000011");
  inputs.blocks_within_window = false;  // and any other order, by and_mask and or_mask
  inputs.or_mask = block_ids(inputs.block_sequence_ids_BT);
  inputs.block_sequence_ids_BT.reset();
  inputs.and_mask = sliding_window({.left = 1, .right = 1});
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100000 111000 011100 001110 000110 000011");
}

// Ids are -1 beyond their tensor, for keys and for queries without a key of their own.
TEST(HfMasksTest, T15ShortBlockIds) {
  MaskInputs inputs = tokens(6);
  inputs.block_sequence_ids_BT = digits(".00");
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100000 111000 111000 111100 111110 111111");
  inputs.geometry.kv_length = 3;
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100 111 111 111 111 111");
}

// HF ors blocks after the documents, and one id in two documents leaks: 1111 in every row.
TEST(HfMasksTest, T20BlocksStayInTheirDocument) {
  MaskInputs inputs = packed("0101");
  inputs.block_sequence_ids_BT = digits("0000");
  EXPECT_EQ(rows(causal_mask({}, inputs)), "1100 1100 0011 0011");
}

TEST(HfMasksTest, T21OrderOfComposition) {
  MaskInputs inputs = padded("11110");
  inputs.or_mask = first_tokens(4) & ~first_tokens(3);
  inputs.and_mask = first_tokens(1) | ~first_tokens(2);
  EXPECT_EQ(rows(causal_mask({}, inputs)), "10010 10010 10110 10110 10110");
}

TEST(HfMasksTest, T22QueryOffset) {
  MaskInputs inputs{.geometry = {.q_length = 2, .kv_length = 6, .q_offset = 4}};
  const BlockMask mask = causal_mask({}, inputs);
  EXPECT_EQ(rows(mask), "111110 111111");
  EXPECT_FALSE(mask.is_causal());
}

TEST(HfMasksTest, T23StaticCache) {
  const CacheState cache{.kind = CacheKind::kStatic, .num_seen = 3, .max_length = 8};
  MaskInputs inputs = cached(cache, std::nullopt, 2);
  EXPECT_EQ(rows(causal_mask({}, inputs)), "11110000 11111000");
  inputs.valid_BT = bits("01111");  // as wide as the tokens so far
  EXPECT_EQ(rows(causal_mask({}, inputs)), "01110000 01111000");
}

TEST(HfMasksTest, T24SizesOfASlidingCache) {
  struct Case {
    int64_t num_seen, q_length, kv_length, kv_offset;
  };
  const std::vector<Case> cases = {{0, 3, 3, 0}, {0, 6, 6, 0}, {3, 1, 4, 0},  {3, 2, 5, 0},
                                   {4, 1, 4, 1}, {4, 3, 6, 1}, {10, 1, 4, 7}, {10, 3, 6, 7}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c10::str("seen ", c.num_seen, ", new ", c.q_length));
    CacheSizes expected{.kv_length = c.kv_length, .kv_offset = c.kv_offset, .q_offset = c.num_seen};
    EXPECT_EQ(cache_sizes({.num_seen = c.num_seen}, 4, c.q_length), expected);
    if (c.num_seen == 0 && c.q_length == 3) expected.kv_length = 4;  // shown before it is full
    const CacheState fixed{.kind = CacheKind::kStatic, .num_seen = c.num_seen, .max_length = 14};
    EXPECT_EQ(cache_sizes(fixed, 4, c.q_length), expected);
  }
}

TEST(HfMasksTest, T25SlidingMaskOfACache) {
  const CacheState cache{.num_seen = 10};
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(4), cached(cache, 4, 3))),
            "111100 011110 001111");
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(4), cached(cache, 4, 1))), "1111");
}

TEST(HfMasksTest, T26PaddingOfASlidingCache) {
  MaskInputs inputs = cached({.num_seen = 6}, 3, 1);
  EXPECT_EQ(inputs.geometry.kv_length, 3);
  EXPECT_EQ(inputs.geometry.kv_offset, 4);
  inputs.valid_BT = bits("0000011");
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(3), inputs)), "011");
}

TEST(HfMasksTest, T27Bidirectional) {
  EXPECT_TRUE(bidirectional_mask({}, tokens(10)).is_full());
  MaskInputs cross{.geometry = {.batch = 2, .q_length = 10, .kv_length = 5}};
  EXPECT_TRUE(bidirectional_mask({}, cross).is_full());
  cross.valid_BT = bits("11111 11111");
  EXPECT_TRUE(bidirectional_mask({}, cross).is_full());
  cross.valid_BT = bits("11110 11110");
  const BlockMask mask = bidirectional_mask({}, cross);
  EXPECT_FALSE(mask.is_full());
  EXPECT_EQ(rows(mask, 1), "11110 11110 11110 11110 11110 11110 11110 11110 11110 11110");
}

// All ones where HF gives None: a model multiplies by it, and no layer needs a case for null.
TEST(HfMasksTest, T28RecurrentMask) {
  MaskInputs inputs{.geometry = {.batch = 2, .q_length = 4}, .valid_BT = bits("00000011 11111111")};
  EXPECT_TRUE(recurrent_mask(inputs).equal(bits("0011 1111")));
  inputs.geometry.q_length = 1;
  EXPECT_TRUE(recurrent_mask(inputs).equal(bits("1 1")));
  inputs.valid_BT.reset();
  EXPECT_TRUE(recurrent_mask(inputs).equal(bits("1 1")));
  inputs = {.geometry = {.batch = 2, .q_length = 3}, .valid_BT = bits("011")};
  EXPECT_TRUE(recurrent_mask(inputs).equal(bits("011 011")));  // one row for all
  inputs.geometry.q_length = 1;
  inputs.valid_BT = bits("110 111");  // HF: None for one token, even when it is padding
  EXPECT_TRUE(recurrent_mask(inputs).equal(bits("0 1")));
}

// HF hands the raw 2D mask, or None, to all layers as soon as one type is unknown.
TEST(HfMasksTest, T29UnknownLayerTypesAreErrors) {
  const MaskConfig config{.layer_types = {"full_attention", "moe"}};
  EXPECT_ERROR(layer_masks(config, layer_mask_rules(config), tokens(5)), "layer type",
               "got \"moe\"", "full_attention", "conv");
}

// HF returns a 4D mask untouched, without the window that the layer needs.
TEST(HfMasksTest, T30MasksOfFourDimensionsAreRefused) {
  MaskInputs inputs = tokens(5);
  inputs.valid_BT = bits("11111").view({1, 1, 1, 5}).expand({1, 1, 5, 5});
  EXPECT_ERROR(sliding_window_causal_mask(sliding(2), inputs), "valid_BT", "[1, 1, 5, 5]",
               "expected [B, T]");
}

// HF skips the first, second and fourth; the others that are plain causal or full need no mask
// either, and say so.
TEST(HfMasksTest, T31ExactSkips) {
  struct Case {
    int64_t q_length, kv_length;
    std::optional<int64_t> window;
    bool is_causal, is_full;
  };
  const std::vector<Case> cases = {{5, 5, {}, true, false},  {1, 9, {}, false, true},
                                   {2, 9, {}, false, false}, {5, 5, 6, true, false},
                                   {5, 5, 5, true, false},   {1, 4, 4, false, true}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c10::str(c.q_length, " x ", c.kv_length, " window ", c.window.value_or(0)));
    const MaskInputs inputs{.geometry = {.q_length = c.q_length,
                                         .kv_length = c.kv_length,
                                         .q_offset = c.kv_length - c.q_length}};
    const BlockMask mask =
        c.window ? sliding_window_causal_mask(sliding(*c.window), inputs) : causal_mask({}, inputs);
    EXPECT_EQ(mask.is_causal(), c.is_causal);
    EXPECT_EQ(mask.is_full(), c.is_full);
  }
}

}  // namespace
}  // namespace tessera
