// Cases 1 to 8 and 17 to 20 of the project's notes on block masks (worked out there by an
// independent model of PyTorch's BlockMask), by number. "[p | f]" are the counts of partial and
// full tiles of each row of tiles.
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attention/block_mask/attention_masks.h"
#include "attention/interchange/flex_tables.h"
#include "attention/interchange/hf_masks.h"
#include "attention/interchange/varlen.h"
#include "attention/masks/mask_fn.h"
#include "attention/registry/registry.h"
#include "tests/attention/masks/reference_masks.h"

namespace tessera {
namespace {

using testing::documents;

using Values = std::vector<int64_t>;

Values values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

BlockMask square(const MaskMod& rule, int64_t tokens, BlockSize block) {
  return create_block_mask(
      rule, {.batch = rule.batch_size(), .q_len = tokens, .kv_len = tokens, .block = block});
}

void expect_counts(const BlockMask& mask, const Values& partial, const Values& full_tiles) {
  const FlexTables tables = to_flex(mask);
  EXPECT_EQ(values(tables.kv_num_blocks_BHR), partial);
  EXPECT_EQ(values(tables.full_kv_num_blocks_BHR), full_tiles);
}

TEST(BlockMaskCases, Case1Causal) {
  const BlockMask mask = square(causal(), 8, {4, 4});
  const FlexTables tables = to_flex(mask);
  expect_counts(mask, {1, 1}, {0, 1});
  EXPECT_EQ(values(tables.kv_indices_BHRC), (Values{0, 1, 1, 0}));
  EXPECT_EQ(values(tables.full_kv_indices_BHRC), (Values{0, 1, 0, 1}));
  EXPECT_EQ(values(tables.q_num_blocks_BHC), (Values{1, 1}));
  EXPECT_EQ(values(tables.q_indices_BHCR), (Values{0, 1, 1, 0}));
  EXPECT_EQ(values(tables.full_q_num_blocks_BHC), (Values{1, 0}));
  EXPECT_EQ(values(tables.full_q_indices_BHCR), (Values{1, 0, 0, 1}));
  EXPECT_EQ(mask.sparsity(), 25.0);
  const FlexTables joined = to_flex(mask, /*separate_full_blocks=*/false);
  EXPECT_EQ(values(joined.kv_num_blocks_BHR), (Values{1, 2}));
  EXPECT_EQ(values(joined.kv_indices_BHRC), (Values{0, 1, 0, 1}));
  EXPECT_EQ(values(joined.q_num_blocks_BHC), (Values{2, 1}));
}

// Ragged borders are partial in PyTorch's tables; here the always-true mask is simply full.
TEST(BlockMaskCases, Case2Ragged) {
  const BlockMask mask = square(causal(), 10, {4, 4});
  expect_counts(mask, {1, 1, 3}, {0, 1, 0});
  const FlexTables tables = to_flex(mask);
  EXPECT_EQ(values(tables.kv_indices_BHRC[0][0][2]), (Values{0, 1, 2}));
  EXPECT_EQ(values(tables.q_num_blocks_BHC), (Values{2, 2, 1}));
  const BlockMask all = square(full(), 10, {4, 4});
  expect_counts(all, {1, 1, 3}, {2, 2, 0});
  EXPECT_TRUE(all.is_full());
  EXPECT_EQ(all.sparsity(), 0.0);  // PyTorch says -44
}

TEST(BlockMaskCases, Case3Sparsity) {
  EXPECT_EQ(square(causal(), 512, {}).sparsity(), 37.5);
  EXPECT_EQ(square(causal(), 1024, {}).sparsity(), 43.75);
  EXPECT_EQ(square(causal() & documents({512, 512, 512, 512}), 2048, {}).sparsity(), 84.375);
}

TEST(BlockMaskCases, Case4AlignedDocuments) {
  const BlockMask mask = square(causal() & documents({4, 8, 4}), 16, {4, 4});
  expect_counts(mask, {1, 1, 1, 1}, {0, 0, 1, 0});
  EXPECT_EQ(values(to_flex(mask).full_kv_indices_BHRC[0][0][2])[0], 1);
  EXPECT_EQ(values(to_flex(mask).full_q_num_blocks_BHC), (Values{0, 1, 0, 0}));
  EXPECT_EQ(mask.sparsity(), 68.75);
  EXPECT_EQ(mask.to_string(), "(0, 0)\n██      \n  ██    \n  ████  \n      ██\n");
}

TEST(BlockMaskCases, Case5RaggedDocuments) {
  const BlockMask mask = square(causal() & documents({3, 5, 8}), 16, {4, 4});
  expect_counts(mask, {1, 2, 1, 1}, {0, 0, 0, 1});
  EXPECT_EQ(values(to_flex(mask).q_num_blocks_BHC), (Values{2, 1, 1, 1}));
  EXPECT_EQ(mask.sparsity(), 62.5);
  EXPECT_EQ(mask.to_string(), "(0, 0)\n██      \n████    \n    ██  \n    ████\n");
}

TEST(BlockMaskCases, Case6Picture) {
  const BlockMask mask = square(causal(), 32, {4, 4});
  EXPECT_EQ(mask.to_string(4, 4), "(0, 0)\n░░      \n██░░    \n████░░  \n██████░░\n");
  const BlockMask heads = create_block_mask(full(), {.heads = 5, .q_len = 4, .kv_len = 4});
  const std::string text = heads.to_string();
  EXPECT_NE(text.find("(0, 3)\n██\n\n...\nTo print out more"), std::string::npos) << text;
  EXPECT_EQ(text.find("(0, 4)"), std::string::npos);
}

TEST(BlockMaskCases, Case7WindowAndChunks) {
  const BlockMask window = square(sliding_window({.left = 2, .right = 0}), 12, {4, 4});
  expect_counts(window, {1, 2, 2}, {0, 0, 0});
  EXPECT_EQ(values(to_flex(window).kv_indices_BHRC[0][0][2].narrow(0, 0, 2)), (Values{1, 2}));
  EXPECT_NEAR(window.sparsity(), 44.4444, 1e-4);
  const BlockMask chunks = square(chunked(8) & causal(), 16, {4, 4});
  expect_counts(chunks, {1, 1, 1, 1}, {0, 1, 0, 1});
  EXPECT_EQ(chunks.sparsity(), 62.5);
}

TEST(BlockMaskCases, Case8RectangularBlocks) {
  const BlockMask mask = square(causal(), 8, {2, 4});
  expect_counts(mask, {1, 1, 1, 1}, {0, 0, 1, 1});
  const FlexTables tables = to_flex(mask);
  EXPECT_EQ(values(tables.kv_indices_BHRC), (Values{0, 1, 0, 1, 1, 0, 1, 0}));
  EXPECT_EQ(values(tables.q_num_blocks_BHC), (Values{2, 2}));
  EXPECT_EQ(values(tables.q_indices_BHCR), (Values{0, 1, 2, 3, 2, 3, 0, 1}));
  EXPECT_EQ(values(tables.full_q_num_blocks_BHC), (Values{2, 0}));
}

// Row 2 may attend to nothing.
TEST(BlockMaskCases, Case17EmptyRow) {
  const MaskMod rule = mask_fn(
      "not_row_2", {}, [](int64_t, int64_t, int64_t q, int64_t kv) { return q != 2 && kv <= q; });
  const BlockMask mask = square(rule, 5, {2, 2});
  const auto leaf = [] { return at::randn({1, 5, 2, 4}, at::kDouble).requires_grad_(); };
  const at::Tensor q_BTHD = leaf();
  const at::Tensor k_BSKD = leaf();
  const at::Tensor v_BSKD = leaf();
  const AttentionOp attend = AttentionRegistry::with_builtins().make("eager");
  const AttentionOutput out = attend(q_BTHD, k_BSKD, v_BSKD, mask, {.return_lse = true});
  EXPECT_TRUE(out.out_BTHE.select(1, 2).eq(0).all().item<bool>());
  EXPECT_TRUE(
      out.lse_BHT.select(2, 2).eq(-std::numeric_limits<double>::infinity()).all().item<bool>());
  out.out_BTHE.square().sum().backward();
  EXPECT_TRUE(q_BTHD.grad().select(1, 2).eq(0).all().item<bool>());
  for (const at::Tensor& tensor : {q_BTHD, k_BSKD, v_BSKD}) {
    EXPECT_TRUE(tensor.grad().isfinite().all().item<bool>());
  }
}

// Four rows packed differently, in microbatches.
TEST(BlockMaskCases, Case18Microbatches) {
  const at::Tensor positions_BT = at::tensor(Values{0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3,
                                                    0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 4, 5, 0, 1})
                                      .view({4, 8});
  const MaskMod rule = causal() & document(document_ids_from_positions(positions_BT));
  const BlockMask mask = square(rule, 8, {4, 4});
  expect_counts(mask, {1, 1, 1, 1, 1, 1, 1, 2}, {0, 1, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(mask.sparsity(), 37.5);
  Values pairs;
  for (int64_t b = 0; b < 4; ++b) pairs.push_back(mask.batch_row(b).num_pairs());
  EXPECT_EQ(pairs, (Values{36, 20, 12, 24}));

  const std::vector<BlockMask> halves = mask.split({2, 2});
  EXPECT_EQ(halves[1].batch_row(0), mask.batch_row(2));
  // Building per microbatch gives the same; reusing another microbatch's mask does not.
  EXPECT_EQ(halves[1],
            square(causal() & document(document_ids_from_positions(positions_BT.narrow(0, 2, 2))),
                   8, {4, 4}));
  EXPECT_FALSE(mask.batch_row(0) == mask.batch_row(1));
  const std::vector<BlockMask> uneven = mask.split({2, 1, 1});
  EXPECT_EQ(uneven[2], mask.batch_row(3));
  const AttentionMasks masks{{"global", mask}, {"all", square(full(), 8, {4, 4})}};
  const std::vector<AttentionMasks> parts = masks.split({3, 1});
  EXPECT_EQ(parts[1].at("global"), mask.batch_row(3));
  EXPECT_EQ(parts[0].at("all").shape().batch, 1);
}

TEST(BlockMaskCases, Case19Crop) {
  const MaskMod rule = mask_fn("two_blocks_ahead", {}, [](int64_t, int64_t, int64_t q, int64_t kv) {
    return kv / 4 == q / 4 + 2;
  });
  const BlockMask mask = square(rule, 16, {4, 4});
  expect_counts(mask, {0, 0, 0, 0}, {1, 1, 0, 0});
  expect_counts(mask.crop(8, 8), {0, 0}, {0, 0});
}

// The half of case 20 that is about ids by EOS is tests/data/loader/packing_test.cpp.
TEST(BlockMaskCases, Case20DocumentsFromPositions) {
  const at::Tensor ids_BT =
      document_ids_from_positions(at::tensor(Values{0, 1, 2, 0, 1, 0, 1, 2, 3}).view({1, 9}));
  EXPECT_EQ(values(ids_BT), (Values{0, 0, 0, 1, 1, 2, 2, 2, 2}));
  const std::optional<Varlen> varlen = to_varlen(square(causal() & document(ids_BT), 9, {}), 1);
  ASSERT_TRUE(varlen);
  EXPECT_EQ(varlen->cu_seqlens, (std::vector<int32_t>{0, 3, 5, 9}));
  EXPECT_EQ(varlen->max_seqlen, 4);
}

}  // namespace
}  // namespace tessera
