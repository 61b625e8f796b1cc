// Where the builders differ from transformers 5.23 on purpose, beyond T9, T14, T20 and T27 to T31
// of hf_masks_test.cpp; each test says what Hugging Face does.
#include <gtest/gtest.h>

#include "attention/interchange/hf_masks.h"
#include "attention/masks/mask_fn.h"
#include "tests/attention/interchange/hf_mask_cases.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::bits;
using testing::cached;
using testing::chunks;
using testing::digits;
using testing::packed;
using testing::rows;
using testing::sliding;
using testing::tokens;
using testing::with_blocks;

// HF: an all-ones mask, as every tokenizer makes, turns packing off.
TEST(HfMasksDifferenceTest, DocumentsHoldBesideAPaddingMask) {
  MaskInputs inputs = packed("012012");
  inputs.valid_BT = bits("111111");
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100000 110000 111000 000100 000110 000111");
}

// HF: a cache turns packing off, also the empty one that training makes by default.
TEST(HfMasksDifferenceTest, DocumentsHoldWithACache) {
  MaskInputs inputs = cached({.num_seen = 4}, std::nullopt, 2);
  inputs.document_ids_BT = digits("000111");
  EXPECT_EQ(rows(causal_mask({}, inputs)), "000110 000111");
  const CacheState fixed{.kind = CacheKind::kStatic, .num_seen = 4, .max_length = 8};
  inputs.geometry = cached(fixed, std::nullopt, 2).geometry;
  EXPECT_EQ(rows(bidirectional_mask({}, inputs)), "00011100 00011100");  // no unfilled key
}

// HF: the bidirectional creators know no documents, and config.is_causal = false leads to them.
TEST(HfMasksDifferenceTest, DocumentsHoldInBidirectionalMasks) {
  const std::string packed_full = "111000 111000 111000 000111 000111 000111";
  const std::string packed_sliding = "110000 111000 011000 000110 000111 000011";
  const MaskInputs inputs = packed("012012");
  EXPECT_EQ(rows(bidirectional_mask({}, inputs)), packed_full);
  EXPECT_EQ(rows(causal_mask({.is_causal = false}, inputs)), packed_full);
  const MaskConfig config{.is_causal = false, .sliding_window = 1};
  EXPECT_EQ(rows(bidirectional_sliding_window_mask(config, inputs)), packed_sliding);
  EXPECT_EQ(rows(sliding_window_causal_mask(config, inputs)), packed_sliding);
}

// HF: block ids are dropped on the way to the bidirectional creators.
TEST(HfMasksDifferenceTest, BlocksHoldInBidirectionalMasks) {
  const MaskConfig config{.is_causal = false, .sliding_window = 0};
  EXPECT_EQ(rows(sliding_window_causal_mask(config, with_blocks("0.00"))), "1011 0100 1011 1011");
}

// HF: chunks of a document count from its first position id in a packed row (3 | 4 5), but from 0
// when the row is that document alone (3 4 | 5). Ours: from its first token, so both agree.
TEST(HfMasksDifferenceTest, ChunksCountTokensOfTheDocument) {
  EXPECT_EQ(rows(chunked_causal_mask(chunks(2), packed("34501"))), "10000 11000 00100 00010 00011");
  EXPECT_EQ(rows(chunked_causal_mask(chunks(2), packed("345"))), "100 110 001");
}

// HF: in a packed row Gemma 3's sliding mask looks up block ids at document positions.
TEST(HfMasksDifferenceTest, BlocksWithinTheWindowKeepTheirPlaceInAPackedRow) {
  MaskInputs inputs = packed("01230123");
  inputs.block_sequence_ids_BT = image_block_ids(digits("01100011"));
  inputs.blocks_within_window = true;
  EXPECT_EQ(rows(sliding_window_causal_mask(sliding(3), inputs)),
            "10000000 11100000 11100000 01110000 00001000 00001100 00001111 00000111");
}

// HF: a mask of segment numbers is cast to bool, and the segments are lost.
TEST(HfMasksDifferenceTest, SegmentNumbersAreDocuments) {
  MaskInputs inputs = tokens(6);
  inputs.valid_BT = digits("112220");
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "Long", "expected Bool");
  inputs.valid_BT = inputs.valid_BT.to(at::kBool);
  inputs.document_ids_BT = digits("112220");
  EXPECT_EQ(rows(causal_mask({}, inputs)), "100000 110000 001000 001100 001110 000000");
}

// HF: a 2D mask left of the first document shifts chunks, but not what or / and functions see.
TEST(HfMasksDifferenceTest, DocumentsStartAfterLeftPadding) {
  MaskInputs inputs = packed("01234012");
  inputs.valid_BT = bits("00111111");
  inputs.or_mask = first_tokens(2);  // of each document
  EXPECT_EQ(rows(chunked_causal_mask(chunks(2), inputs)),
            "00000000 00000000 00110000 00110000 00111000 00000110 00000110 00000111");
}

// HF: no bidirectional chunked creator; it builds a causal one whatever the config says.
TEST(HfMasksDifferenceTest, ChunkedMasksAreCausal) {
  const MaskConfig config{.is_causal = false, .attention_chunk_size = 2};
  EXPECT_ERROR(chunked_causal_mask(config, tokens(4)), "config.is_causal", "got false");
}

// HF: a batch of equal rows is B rows, and there is never more than one head.
TEST(HfMasksDifferenceTest, MasksAreAsLargeAsTheirRule) {
  MaskInputs inputs = tokens(4, /*batch=*/3);
  inputs.geometry.heads = 2;
  const auto sizes = [&] {
    const MaskShape shape = causal_mask({}, inputs).shape();
    return std::pair(shape.batch, shape.heads);
  };
  EXPECT_EQ(sizes(), std::pair(int64_t{1}, int64_t{1}));
  inputs.or_mask = mask_fn("row_is_2", {}, [](int64_t b, int64_t, int64_t, int64_t) {
    return b == 2;  // a mask_fn may ask for anything
  });
  EXPECT_EQ(sizes(), std::pair(int64_t{3}, int64_t{2}));
  EXPECT_TRUE(causal_mask({}, inputs).allows(2, 0, 0, 3));
  EXPECT_FALSE(causal_mask({}, inputs).allows(1, 0, 0, 3));
  inputs.or_mask.reset();
  inputs.valid_BT = bits("1111 1111 1111");
  EXPECT_EQ(sizes(), std::pair(int64_t{1}, int64_t{1}));
  inputs.valid_BT = bits("1111 0111 1111");
  EXPECT_EQ(sizes(), std::pair(int64_t{3}, int64_t{1}));
  inputs.and_mask = mask_fn(
      "head_is", {}, [](int64_t b, int64_t h, int64_t, int64_t) { return h == 1 && b == 2; });
  EXPECT_EQ(sizes(), std::pair(int64_t{3}, int64_t{2}));
  const BlockMask mask = causal_mask({}, inputs);
  EXPECT_TRUE(mask.allows(2, 1, 3, 0));
  EXPECT_FALSE(mask.allows(2, 0, 3, 0));
}

}  // namespace
}  // namespace tessera
