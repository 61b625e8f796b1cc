#include "attention/interchange/varlen.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/attention/masks/random_masks.h"
#include "tests/attention/masks/reference_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::documents;

std::optional<Varlen> varlen_of(const MaskMod& rule, int64_t tokens, int64_t batch = 1) {
  const MaskShape shape{
      .batch = rule.batch_size(), .q_len = tokens, .kv_len = tokens, .block = {3, 5}};
  return to_varlen(create_block_mask(rule, shape), batch);
}

TEST(VarlenTest, KnowsPackedDocuments) {
  const MaskMod packed = documents({3, 5, 2});
  EXPECT_EQ(varlen_of(causal() & packed, 10),
            (Varlen{.cu_seqlens = {0, 3, 8, 10}, .max_seqlen = 5, .window = {.right = 0}}));
  EXPECT_EQ(varlen_of(packed, 10),
            (Varlen{.cu_seqlens = {0, 3, 8, 10}, .max_seqlen = 5, .window = {}}));
  EXPECT_EQ(varlen_of(packed & sliding_window({.left = 1, .right = 0}), 10),
            (Varlen{.cu_seqlens = {0, 3, 8, 10}, .max_seqlen = 5, .window = {1, 0}}));
  EXPECT_EQ(varlen_of(packed & sliding_window({.left = 2, .right = 1}), 10),
            (Varlen{.cu_seqlens = {0, 3, 8, 10}, .max_seqlen = 5, .window = {2, 1}}));
  EXPECT_EQ(varlen_of(causal(), 10),
            (Varlen{.cu_seqlens = {0, 10}, .max_seqlen = 10, .window = {.right = 0}}));
  // Chunks are documents of a fixed length.
  EXPECT_EQ(varlen_of(causal() & chunked(4), 10),
            (Varlen{.cu_seqlens = {0, 4, 8, 10}, .max_seqlen = 4, .window = {.right = 0}}));
}

TEST(VarlenTest, LaysBatchRowsEndToEnd) {
  EXPECT_EQ(varlen_of(causal(), 4, /*batch=*/3)->cu_seqlens, (std::vector<int32_t>{0, 4, 8, 12}));
  const MaskMod two_rows =
      causal() & document(at::tensor(std::vector<int64_t>{0, 0, 1, 1, 0, 0, 0, 1}).view({2, 4}));
  EXPECT_EQ(varlen_of(two_rows, 4, 2)->cu_seqlens, (std::vector<int32_t>{0, 2, 4, 7, 8}));
  EXPECT_ERROR(varlen_of(two_rows, 4, 3), "batch: got 3", "expected 2");
}

TEST(VarlenTest, RefusesWhatItCannotSay) {
  EXPECT_EQ(varlen_of(causal() & ~sliding_window({.left = 1, .right = 0}), 8), std::nullopt);
  EXPECT_EQ(varlen_of(none(), 8), std::nullopt);
  EXPECT_EQ(varlen_of(causal() | first_tokens(3), 8), std::nullopt);
  // Windows that differ from document to document.
  const MaskMod mixed =
      causal() & documents({4, 4}) & (first_tokens(4) | sliding_window({.left = 1}));
  EXPECT_EQ(varlen_of(mixed, 8), std::nullopt);
  EXPECT_EQ(to_varlen(create_block_mask(causal(), {.q_len = 3, .kv_len = 4}), 1), std::nullopt);
  EXPECT_EQ(to_varlen(create_block_mask(causal(), {.heads = 2, .q_len = 4, .kv_len = 4}), 1),
            std::nullopt);
}

// The pairs that a varlen kernel computes.
at::Tensor dense_from_varlen(const Varlen& varlen, int64_t batch, int64_t tokens) {
  at::Tensor dense = at::zeros({batch, 1, tokens, tokens}, at::kBool);
  for (size_t i = 0; i + 1 < varlen.cu_seqlens.size(); ++i) {
    const int64_t b = varlen.cu_seqlens[i] / tokens;
    const int64_t begin = varlen.cu_seqlens[i] - b * tokens;
    const int64_t end = varlen.cu_seqlens[i + 1] - b * tokens;
    for (int64_t q = begin; q < end; ++q) {
      for (int64_t kv = begin; kv < end; ++kv) {
        const bool in_window = (!varlen.window.left || q - kv <= *varlen.window.left) &&
                               (!varlen.window.right || kv - q <= *varlen.window.right);
        dense[b][0][q][kv].fill_(in_window);
      }
    }
  }
  return dense;
}

// Whatever rule: if there is a varlen form, it holds the same pairs.
TEST(VarlenTest, HoldsTheSamePairs) {
  int num_found = 0;
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::RandomRules random(seed, 12);
    const MaskMod rule = random.rule(2, static_cast<int>(seed % 3)).rule &
                         document(random.document_ids(2, 12)) & causal();
    const MaskShape shape{.batch = 2, .q_len = 12, .kv_len = 12, .block = {4, 4}};
    const BlockMask mask = create_block_mask(rule, shape);
    const std::optional<Varlen> varlen = to_varlen(mask, 2);
    if (!varlen) continue;
    ++num_found;
    ASSERT_TRUE(dense_from_varlen(*varlen, 2, 12).equal(mask.to_dense())) << rule.to_string();
  }
  EXPECT_GT(num_found, 300);
}

}  // namespace
}  // namespace tessera
