#include "attention/block_mask/block_mask.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "tests/attention/masks/random_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::block_mask_from_dense;
using testing::dense_from_rule;
using testing::random_shape;
using testing::RandomRule;
using testing::RandomRules;

// Checks the promises of block_mask.h for any mask against the element mask.
void expect_same_pairs(const BlockMask& mask, const at::Tensor& dense_BHTS) {
  ASSERT_TRUE(mask.to_dense().equal(dense_BHTS));
  ASSERT_EQ(mask.num_pairs(), dense_BHTS.sum().item<int64_t>());
  ASSERT_EQ(mask.is_full(), dense_BHTS.all().item<bool>());
  const MaskShape& shape = mask.shape();
  const bool* dense = dense_BHTS.const_data_ptr<bool>();
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t q = 0; q < shape.q_len; ++q) {
        for (int64_t kv = 0; kv < shape.kv_len; ++kv) {
          ASSERT_EQ(mask.allows(b, h, q, kv), *dense++) << b << " " << h << " " << q << " " << kv;
        }
      }
    }
  }
}

double reference_sparsity(const BlockMask& mask, const at::Tensor& dense_BHTS) {
  const MaskShape& shape = mask.shape();
  int64_t present = 0;
  for (const at::Tensor& head_TS : dense_BHTS.flatten(0, 1).unbind(0)) {
    for (const at::Tensor& rows : head_TS.split(shape.block.q, 0)) {
      for (const at::Tensor& tile : rows.split(shape.block.kv, 1)) {
        if (tile.any().item<bool>()) present += tile.numel();
      }
    }
  }
  return 100.0 * (1.0 - static_cast<double>(present) / static_cast<double>(dense_BHTS.numel()));
}

// The builder against the tile-by-tile reference: same pairs, same classes, canonical runs, tiles
// stored once.
TEST(BlockMaskPropertyTest, BuilderEqualsReferenceForRandomRules) {
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    constexpr int64_t kTokens = 40;
    RandomRules random(seed, kTokens);
    const RandomRule rule = random.rule(/*batch=*/2, /*depth=*/static_cast<int>(seed % 4));
    MaskShape shape = random_shape(random, kTokens);
    shape.batch = rule.rule.batch_size();
    SCOPED_TRACE(rule.rule.to_string());
    const BlockMask mask = create_block_mask(rule.rule, shape);
    const at::Tensor dense_BHTS = dense_from_rule(rule.allows, shape);
    const BlockMask reference = block_mask_from_dense(dense_BHTS, shape.block);
    ASSERT_EQ(mask, reference) << mask.to_string() << reference.to_string();
    ASSERT_EQ(mask.data().runs.size(), reference.data().runs.size());
    ASSERT_LE(mask.data().num_tiles(), reference.data().num_tiles());
    expect_same_pairs(mask, dense_BHTS);
  }
}

TEST(BlockMaskPropertyTest, SparsityIsTheAreaOfAbsentTiles) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 40);
    const RandomRule rule = random.rule(1, 2);
    const MaskShape shape = random_shape(random, 40);
    const BlockMask mask = create_block_mask(rule.rule, shape);
    EXPECT_NEAR(mask.sparsity(), reference_sparsity(mask, mask.to_dense()), 1e-10);
  }
}

TEST(BlockMaskPropertyTest, BroadcastEqualsPerRow) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 30);
    const RandomRule rule = random.rule(/*batch=*/1, 3, /*opaque=*/false);
    MaskShape shape = random_shape(random, 30);
    const BlockMask one = create_block_mask(rule.rule, shape);
    shape.batch = 3;
    shape.heads = 2;
    const BlockMask many = create_block_mask(rule.rule, shape);
    ASSERT_EQ(many, block_mask_from_dense(dense_from_rule(rule.allows, shape), shape.block));
    ASSERT_EQ(many.data().num_tiles(), one.data().num_tiles());
    ASSERT_TRUE(one.to_dense().expand({3, 2, -1, -1}).equal(many.to_dense()));
    ASSERT_EQ(one.runs(2, 1, 0).vec(), many.runs(2, 1, 0).vec());
  }
}

TEST(BlockMaskPropertyTest, EqualTilesAreStoredOnce) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 60);
    const RandomRule rule = random.rule(/*batch=*/2, 3);
    MaskShape shape = random_shape(random, 60);
    shape.batch = rule.rule.batch_size();
    const BlockMaskData data = create_block_mask(rule.rule, shape).data();
    const int64_t words = data.shape.block.q * data.words_per_row();
    std::vector<std::vector<uint64_t>> tiles;
    for (int64_t i = 0; i < data.num_tiles(); ++i) {
      const auto begin = data.tile_bits.begin() + i * words;
      tiles.emplace_back(begin, begin + words);
    }
    std::sort(tiles.begin(), tiles.end());
    ASSERT_EQ(std::unique(tiles.begin(), tiles.end()), tiles.end());
  }
}

TEST(BlockMaskPropertyTest, SplitEqualsTheRowsOfTheWhole) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    constexpr int64_t kBatch = 5;
    RandomRules random(seed, 30);
    MaskShape shape = random_shape(random, 30);
    shape.batch = kBatch;
    shape.heads = 2;
    const MaskMod rule = random.rule(kBatch, 2).rule & document(random.document_ids(kBatch, 30));
    const BlockMask mask = create_block_mask(rule, shape);
    const std::vector<int64_t> sizes{2, 1, 2};
    const std::vector<BlockMask> parts = mask.split(sizes);
    ASSERT_EQ(parts.size(), 3U);
    int64_t first = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      ASSERT_EQ(parts[i].shape().batch, sizes[i]);
      const at::Tensor rows = mask.to_dense().narrow(0, first, sizes[i]);
      ASSERT_TRUE(parts[i].to_dense().equal(rows));
      ASSERT_EQ(parts[i], block_mask_from_dense(rows, shape.block));
      first += sizes[i];
    }
  }
}

// Packed documents are block diagonal: no pair across documents, and inside a document what it has
// alone.
TEST(BlockMaskPropertyTest, DocumentsDoNotLeak) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 48);
    const at::Tensor ids_BT = random.document_ids(2, 20);
    const int64_t* ids = ids_BT.const_data_ptr<int64_t>();
    MaskShape shape{.batch = 2, .q_len = 48, .kv_len = 48};
    shape.block = random_shape(random, 48).block;
    const BlockMask mask = create_block_mask(causal() & document(ids_BT), shape);
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t q = 0; q < 48; ++q) {
        for (int64_t kv = 0; kv < 48; ++kv) {
          const bool same = ids[b * 48 + q] == ids[b * 48 + kv];
          ASSERT_EQ(mask.allows(b, 0, q, kv), same && kv <= q);
        }
      }
    }
  }
}

TEST(BlockMaskTest, CausalIsTwoRunsARow) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 1 << 20, .kv_len = 1 << 20});
  const int64_t num_rows = mask.data().num_q_blocks();
  EXPECT_EQ(num_rows, 8192);
  EXPECT_EQ(static_cast<int64_t>(mask.data().runs.size()), 2 * num_rows - 1);
  EXPECT_EQ(mask.data().num_tiles(), 1);
  const c10::ArrayRef<BlockRun> last = mask.runs(0, 0, num_rows - 1);
  EXPECT_EQ(last[0], (BlockRun{0, 8191}));
  EXPECT_EQ(last[1], (BlockRun{8191, 8192, 0}));
  constexpr int64_t kTokens = 1 << 20;
  EXPECT_EQ(mask.num_pairs(), kTokens * (kTokens + 1) / 2);
}

TEST(BlockMaskTest, RaggedEdgesClip) {
  const BlockMask mask =
      create_block_mask(full(), {.q_len = 10, .kv_len = 7, .block = {.q = 4, .kv = 4}});
  EXPECT_TRUE(mask.is_full());
  EXPECT_EQ(mask.data().num_tiles(), 0);
  EXPECT_EQ(mask.num_pairs(), 70);
  EXPECT_EQ(mask.sparsity(), 0.0);
  EXPECT_EQ(create_block_mask(none(), mask.shape()).sparsity(), 100.0);
}

TEST(BlockMaskTest, IsCausalIsExact) {
  const MaskShape shape{.batch = 2, .heads = 3, .q_len = 20, .kv_len = 20, .block = {8, 4}};
  EXPECT_TRUE(create_block_mask(causal(), shape).is_causal());
  EXPECT_TRUE(create_block_mask(causal() & full() & ~~causal(), shape).is_causal());
  EXPECT_TRUE(
      create_block_mask(causal() & document(at::zeros({20}, at::kLong)), shape).is_causal());
  EXPECT_FALSE(create_block_mask(full(), shape).is_causal());
  EXPECT_FALSE(create_block_mask(~causal(), shape).is_causal());
  const at::Tensor ids_BT = at::zeros({2, 20}, at::kLong);
  ids_BT[1][19].fill_(1);
  EXPECT_FALSE(create_block_mask(causal() & document(ids_BT), shape).is_causal());
  MaskShape wide = shape;
  wide.kv_len = 21;
  EXPECT_FALSE(create_block_mask(causal(), wide).is_causal());
}

TEST(BlockMaskTest, AdditiveIsZeroWhereAllowed) {
  const at::Tensor ids_BT =
      at::tensor(std::vector<int64_t>{0, 0, 1, 1, 1, 2, 2, 2, 2}).view({1, 9});
  const BlockMask mask = create_block_mask(causal() & document(ids_BT),
                                           {.q_len = 9, .kv_len = 7, .block = {.q = 4, .kv = 2}});
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    const at::Tensor additive = mask.to_additive(dtype);
    EXPECT_EQ(additive.scalar_type(), dtype);
    EXPECT_TRUE((additive == 0).equal(mask.to_dense()));
    EXPECT_TRUE((additive == -std::numeric_limits<double>::infinity())
                    .equal(mask.to_dense().logical_not()));
  }
  EXPECT_ERROR(mask.to_additive(at::kLong), "dtype", "Long", "Float");
  EXPECT_ERROR(mask.to_additive(at::kBool), "dtype", "Bool", "to_dense");
}

TEST(BlockMaskTest, SquareFormsAreMadeOnceAndShared) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 300, .kv_len = 300});
  const BlockMask copy = mask;  // NOLINT(performance-unnecessary-copy-initialization): the point
  EXPECT_TRUE(mask.to_additive(at::kFloat).is_same(copy.to_additive(at::kFloat)));
  EXPECT_FALSE(mask.to_additive(at::kFloat).is_same(mask.to_additive(at::kDouble)));
  EXPECT_TRUE(mask.to_dense().is_same(copy.to_dense(at::Device(at::kCPU))));
}

TEST(BlockMaskTest, SquareFormsAreSafeFromThreads) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 200, .kv_len = 200});
  std::vector<at::Tensor> seen(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < seen.size(); ++i) {
    threads.emplace_back([&, i] {
      seen[i] = mask.to_additive(at::kFloat);
      EXPECT_TRUE(mask.is_causal());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& tensor : seen) EXPECT_TRUE(tensor.is_same(seen[0]));
}

TEST(BlockMaskTest, FormsMadeInInferenceModeServeTraining) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 5, .kv_len = 5});
  {
    const c10::InferenceMode inference;
    mask.to_additive(at::kFloat);
  }
  EXPECT_FALSE(mask.to_additive(at::kFloat).is_inference());
}

TEST(BlockMaskTest, PicturesHaveALimit) {
  const BlockMask heads = create_block_mask(full(), {.heads = 2, .q_len = 1, .kv_len = 1});
  EXPECT_EQ(heads.to_string(20, 20, /*limit=*/1),
            "(0, 0)\n██\n\n...\nTo print out more, set BlockMask.to_string(limit=N)\nYou can also "
            "index (BlockMask[batch, head]) to choose a specific batch or head");
  EXPECT_ERROR(heads.to_string(0), "max_rows 0");
}

TEST(BlockMaskTest, EqualityIgnoresTheOrderOfTiles) {
  const MaskMod rule = causal() & document(at::tensor(std::vector<int64_t>{0, 0, 0, 1, 1, 1}));
  const BlockMask mask =
      create_block_mask(rule, {.q_len = 6, .kv_len = 6, .block = {.q = 2, .kv = 2}});
  BlockMaskData data = mask.data();
  const int64_t num_tiles = data.num_tiles();
  ASSERT_EQ(num_tiles, 4);
  std::rotate(data.tile_bits.begin(), data.tile_bits.begin() + 2, data.tile_bits.end());
  for (BlockRun& run : data.runs) {
    if (!run.full()) run.tile = static_cast<int32_t>((run.tile + num_tiles - 1) % num_tiles);
  }
  EXPECT_FALSE(data == mask.data());
  EXPECT_EQ(BlockMask(data), mask);
  ASSERT_EQ(data.tile_bits[0], 3U);
  data.tile_bits[0] = 1;
  EXPECT_FALSE(BlockMask(data) == mask);
  MaskShape other = mask.shape();
  other.block.kv = 3;
  EXPECT_FALSE(create_block_mask(rule, other) == mask);
}

TEST(BlockMaskTest, SplitRepeatsABroadcastMaskAndRefusesWrongSizes) {
  const BlockMask one = create_block_mask(causal(), {.q_len = 5, .kv_len = 5});
  const std::vector<BlockMask> parts = one.split({3, 4});
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[1], one);
  const BlockMask three = create_block_mask(causal(), {.batch = 3, .q_len = 5, .kv_len = 5});
  EXPECT_ERROR(three.split({1, 1}), "batch_sizes", "sum of 2", "3");
  EXPECT_ERROR(three.split({3, 0}), "batch_sizes", "got 0");
}

TEST(BlockMaskTest, RefusesIndicesOutOfRange) {
  const BlockMask mask = create_block_mask(causal(), {.batch = 2, .q_len = 5, .kv_len = 6});
  EXPECT_ERROR(mask.runs(2, 0, 0), "batch row 2", "less than 2");
  EXPECT_ERROR(mask.runs(0, 0, 1), "query block 1", "less than 2, 1, 1");
  EXPECT_ERROR(mask.allows(0, 0, 5, 0), "query 5", "5 and 6");
  EXPECT_ERROR(mask.allows(0, 0, 0, -1), "key -1");
  EXPECT_TRUE(mask.allows(1, /*h=*/9, 4, 4));
}

TEST(BlockMaskTest, BuilderRefusesShapesThatTheRuleDoesNotCover) {
  const MaskMod rule = causal() & document(at::zeros({2, 10}, at::kLong));
  EXPECT_ERROR(create_block_mask(rule, {.batch = 3, .q_len = 10, .kv_len = 10}),
               "causal & document", "batch", "got 3", "expected 2");
  EXPECT_ERROR(create_block_mask(rule, {.q_len = 10, .kv_len = 10}), "batch", "got 1");
  EXPECT_ERROR(create_block_mask(rule, {.batch = 2, .q_len = 10, .kv_len = 11}), "kv_len", "11",
               "within 0 to 10");
  EXPECT_ERROR(create_block_mask(rule, {.batch = 2, .q_len = 11, .kv_len = 1}), "q_len", "11");
  EXPECT_ERROR(create_block_mask(causal(), {.q_len = 0, .kv_len = 4}), "MaskShape.q_len", "got 0");
  EXPECT_ERROR(create_block_mask(causal(), {.batch = -1, .q_len = 4, .kv_len = 4}), "batch", "-1");
  EXPECT_ERROR(create_block_mask(causal(), {.heads = 0, .q_len = 4, .kv_len = 4}), "heads");
  EXPECT_ERROR(create_block_mask(causal(), {.q_len = 4, .kv_len = 4, .block = {.q = 0, .kv = 1}}),
               "block.q", "got 0");
  EXPECT_ERROR(create_block_mask(causal(), {.q_len = 4, .kv_len = 4, .block = {.q = 1, .kv = -2}}),
               "block.kv", "got -2");
}

class BlockMaskDataTest : public ::testing::Test {
 protected:
  // Causal, 6 x 5 tokens in blocks of 2: rows [p], [f p], [f2 p], the last tile ragged in kv.
  BlockMaskData data_ =
      create_block_mask(causal(), {.q_len = 6, .kv_len = 5, .block = {.q = 2, .kv = 2}}).data();
};

TEST_F(BlockMaskDataTest, AcceptsWhatTheBuilderMakes) {
  EXPECT_EQ(data_.runs.size(), 4U);
  EXPECT_EQ(data_.num_tiles(), 1);
  EXPECT_TRUE(BlockMask(data_).allows(0, 0, 4, 4));
}

TEST_F(BlockMaskDataTest, RefusesBrokenOffsets) {
  BlockMaskData data = data_;
  data.row_offsets.pop_back();
  EXPECT_ERROR(BlockMask{data}, "row_offsets", "got 3", "1 x 1 x 3 + 1");
  data = data_;
  data.shape.batch = data.shape.heads = std::numeric_limits<int32_t>::max();
  data.shape.q_len = std::numeric_limits<int32_t>::max();
  EXPECT_ERROR(BlockMask{data}, "MaskShape", "2147483647 x 2147483647", "2^63");
  data = data_;
  data.row_offsets.back() += 1;
  EXPECT_ERROR(BlockMask{data}, "row_offsets", "number of runs, 4");
  data = data_;
  data.row_offsets[1] = 4;
  EXPECT_ERROR(BlockMask{data}, "row_offsets", "ascending", "row 1");
  data = data_;
  data.row_offsets[0] = -1;
  EXPECT_ERROR(BlockMask{data}, "row_offsets", "first -1");
}

TEST_F(BlockMaskDataTest, RefusesBrokenRuns) {
  BlockMaskData data = data_;
  data.runs[1].end = 4;
  EXPECT_ERROR(BlockMask{data}, "row of tiles 1", "0 to 4", "within 0 to 3");
  data = data_;
  data.runs[1].begin = -1;
  EXPECT_ERROR(BlockMask{data}, "row of tiles 1", "-1");
  data = data_;
  data.runs[1] = {1, 2};
  EXPECT_ERROR(BlockMask{data}, "row of tiles 1", "begins at block 1", "ends at 2");
  data = data_;
  data.runs[2] = {1, 2};
  EXPECT_ERROR(BlockMask{data}, "row of tiles 1", "two full runs", "block 1");
  data = data_;
  data.runs[0].tile = 1;
  EXPECT_ERROR(BlockMask{data}, "row of tiles 0", "tile 1", "below 1");
  data = data_;
  data.runs[0].end = 2;
  EXPECT_ERROR(BlockMask{data}, "row of tiles 0", "partial run of blocks 0 to 2");
}

TEST_F(BlockMaskDataTest, RefusesBrokenTiles) {
  BlockMaskData data = data_;
  data.tile_bits.push_back(0);
  EXPECT_ERROR(BlockMask{data}, "tile_bits", "got 3", "multiple of 2");
  data = data_;
  data.tile_bits = {0, 0};
  EXPECT_ERROR(BlockMask{data}, "without a bit");
  data = data_;
  data.tile_bits = {3, 3};
  EXPECT_ERROR(BlockMask{data}, "every bit set");
  data = data_;
  data.tile_bits = {1, 7};
  EXPECT_ERROR(BlockMask{data}, "set bit in row 1", "2 keys");
  // A tile with bits of two keys may stand inside but not at the ragged edge, where the second key
  // does not exist.
  data = data_;
  data.runs[3] = {2, 3, 0};
  data.tile_bits = {1, 3};
  EXPECT_ERROR(BlockMask{data}, "row of tiles 2", "row 1", "1 keys");
}

}  // namespace
}  // namespace tessera
