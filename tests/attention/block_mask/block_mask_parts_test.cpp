// Parts of a block mask against the same parts of its pairs.
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "attention/block_mask/block_mask.h"
#include "attention/block_mask/block_mask_bytes.h"
#include "attention/block_mask/block_mask_shared.h"
#include "tests/attention/masks/random_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::block_mask_from_dense;
using testing::random_mask;
using testing::RandomMask;
using testing::RandomRules;

// The pairs that the runs by columns say, [B, H, T, S].
at::Tensor dense_from_columns(const BlockMask& mask) {
  const BlockMaskData& data = mask.data();
  const MaskShape& shape = mask.shape();
  at::Tensor dense = at::zeros({shape.batch, shape.heads, shape.q_len, shape.kv_len}, at::kBool);
  for (int64_t group = 0; group < shape.batch * shape.heads; ++group) {
    const at::Tensor head_TS = dense[group / shape.heads][group % shape.heads];
    for (int64_t kv_block = 0; kv_block < data.num_kv_blocks(); ++kv_block) {
      const TokenRange keys = block_tokens(kv_block, shape.block.kv, shape.kv_len);
      BlockRun previous{-1, -1, 0};
      for (const BlockRun& run : mask.q_runs(group / shape.heads, group % shape.heads, kv_block)) {
        EXPECT_GE(run.begin, previous.end);
        EXPECT_FALSE(run.full() && previous.full() && run.begin == previous.end);
        previous = run;
        const int64_t begin = run.begin * shape.block.q;
        const int64_t end = std::min(run.end * shape.block.q, shape.q_len);
        at::Tensor part = head_TS.narrow(0, begin, end - begin).narrow(1, keys.begin, keys.size());
        if (run.full()) {
          part.fill_(true);
          continue;
        }
        for (int64_t i = 0; i < part.size(0); ++i) {
          const uint64_t* row = tile_words(data, run.tile) + i * data.words_per_row();
          for (int64_t j = 0; j < part.size(1); ++j) {
            part[i][j].fill_((row[j / 64] >> (j % 64) & 1) != 0);
          }
        }
      }
    }
  }
  return dense;
}

TEST(BlockMaskPartsTest, ColumnsHoldTheSamePairs) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask random = random_mask(seed, 24);
    ASSERT_TRUE(dense_from_columns(random.mask).equal(random.dense_BHTS));
  }
}

TEST(BlockMaskPartsTest, ColumnsAreMadeOnceFromManyThreads) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 1000, .kv_len = 1000});
  std::vector<const BlockRun*> seen(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < seen.size(); ++i) {
    threads.emplace_back([&, i] { seen[i] = mask.q_runs(0, 0, 3).data(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const BlockRun* runs : seen) EXPECT_EQ(runs, seen[0]);
  EXPECT_EQ(mask.q_runs(0, 0, 7).vec(), (std::vector<BlockRun>{{7, 8, 1}}));
  EXPECT_EQ(mask.q_runs(0, 0, 3).vec(), (std::vector<BlockRun>{{3, 4, 0}, {4, 8}}));
  EXPECT_ERROR(mask.q_runs(0, 0, 8), "key block 8", "less than 1, 1, 8");
}

TEST(BlockMaskPartsTest, BatchRowIsTheRowAlone) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask random = random_mask(seed, 24, /*batch=*/3);
    for (int64_t b = 0; b < random.mask.shape().batch; ++b) {
      ASSERT_EQ(random.mask.batch_row(b), block_mask_from_dense(random.dense_BHTS.narrow(0, b, 1),
                                                                random.mask.shape().block));
    }
  }
  const BlockMask two = create_block_mask(causal(), {.batch = 2, .q_len = 3, .kv_len = 3});
  EXPECT_ERROR(two.batch_row(2), "got 2", "0 to 1");
}

// Some distinct blocks in random order, a ragged last one last.
std::vector<int64_t> random_blocks(RandomRules& random, int64_t num_blocks, bool ragged,
                                   bool ascending) {
  std::vector<int64_t> blocks;
  for (int64_t block = 0; block < num_blocks; ++block) {
    if (random.uniform(0, 1) == 0) continue;
    const bool stays = ascending || (ragged && block + 1 == num_blocks);
    const int64_t at = stays ? static_cast<int64_t>(blocks.size())
                             : random.uniform(0, static_cast<int64_t>(blocks.size()));
    blocks.insert(blocks.begin() + at, block);
  }
  if (blocks.empty()) blocks.push_back(0);
  return blocks;
}

at::Tensor select_tokens(const at::Tensor& dense, int64_t dim, const std::vector<int64_t>& blocks,
                         int64_t block_size) {
  std::vector<at::Tensor> parts;
  for (const int64_t block : blocks) {
    const TokenRange tokens = block_tokens(block, block_size, dense.size(dim));
    parts.push_back(dense.narrow(dim, tokens.begin, tokens.size()));
  }
  return at::cat(parts, dim);
}

TEST(BlockMaskPartsTest, SelectedBlocksAreTheirRowsAndColumns) {
  for (uint32_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask whole = random_mask(seed, 40);
    const MaskShape& shape = whole.mask.shape();
    RandomRules random(seed + 1, 1);
    const std::vector<int64_t> q_blocks =
        random_blocks(random, whole.mask.data().num_q_blocks(), shape.q_len % shape.block.q != 0,
                      /*ascending=*/false);
    ASSERT_EQ(whole.mask.select_q_blocks(q_blocks),
              block_mask_from_dense(select_tokens(whole.dense_BHTS, 2, q_blocks, shape.block.q),
                                    shape.block));
    const std::vector<int64_t> kv_blocks = random_blocks(random, whole.mask.data().num_kv_blocks(),
                                                         /*ragged=*/false, /*ascending=*/true);
    ASSERT_EQ(whole.mask.select_kv_blocks(kv_blocks),
              block_mask_from_dense(select_tokens(whole.dense_BHTS, 3, kv_blocks, shape.block.kv),
                                    shape.block));
  }
}

TEST(BlockMaskPartsTest, AllBlocksInOrderAreTheMask) {
  const BlockMask mask = random_mask(7, 40).mask;
  std::vector<int64_t> q_blocks(mask.data().num_q_blocks());
  std::iota(q_blocks.begin(), q_blocks.end(), 0);
  EXPECT_EQ(mask.select_q_blocks(q_blocks), mask);
}

TEST(BlockMaskPartsTest, RefusesWrongBlocks) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 10, .kv_len = 10, .block = {4, 4}});
  EXPECT_ERROR(mask.select_q_blocks({}), "select_q_blocks", "no block");
  EXPECT_ERROR(mask.select_q_blocks({3}), "block 3", "0 to 2");
  EXPECT_ERROR(mask.select_q_blocks({-1}), "block -1");
  EXPECT_ERROR(mask.select_q_blocks({1, 0, 1}), "block 1 twice");
  EXPECT_ERROR(mask.select_q_blocks({2, 0}), "block 2", "expected it last");
  EXPECT_ERROR(mask.select_kv_blocks({1, 0}), "select_kv_blocks", "block 0 after 1", "ascending");
  EXPECT_EQ(mask.select_q_blocks({1, 2}).shape().q_len, 6);
}

TEST(BlockMaskPartsTest, RowsBuiltAloneAreTheRowsOfTheWhole) {
  for (uint32_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask whole = random_mask(seed, 40);
    RandomRules random(seed + 1, 1);
    const std::vector<int64_t> q_blocks = random_blocks(random, whole.mask.data().num_q_blocks(),
                                                        /*ragged=*/false, /*ascending=*/true);
    ASSERT_EQ(create_block_mask_rows(whole.rule, whole.mask.shape(), q_blocks),
              whole.mask.select_q_blocks(q_blocks));
  }
  const MaskShape shape{.q_len = 10, .kv_len = 10, .block = {4, 4}};
  EXPECT_ERROR(create_block_mask_rows(causal(), shape, {1, 0}), "create_block_mask_rows",
               "block 0 after 1", "ascending");
  EXPECT_ERROR(create_block_mask_rows(causal(), shape, {3}), "block 3", "0 to 2");
}

struct NamedPlan : MaskPlan {
  explicit NamedPlan(std::string plan_name) : name(std::move(plan_name)) {}
  std::string kind() const override { return "test"; }
  std::string to_string() const override { return "plan " + name; }
  bool equals(const MaskPlan& other) const override {
    return name == static_cast<const NamedPlan&>(other).name;
  }
  std::string name;
};

TEST(BlockMaskPartsTest, APlanBelongsToTheMaskAndForbidsParts) {
  const BlockMask plain = create_block_mask(causal(), {.q_len = 10, .kv_len = 10, .block = {4, 4}});
  const BlockMask mask = plain.with_plan(std::make_shared<NamedPlan>("a"));
  EXPECT_EQ(mask, plain.with_plan(std::make_shared<NamedPlan>("a")));
  EXPECT_FALSE(mask == plain);
  EXPECT_FALSE(plain == mask);
  EXPECT_FALSE(mask == plain.with_plan(std::make_shared<NamedPlan>("b")));
  EXPECT_EQ(mask.with_plan(nullptr), plain);
  EXPECT_EQ(plain.plan(), nullptr);
  EXPECT_ERROR(mask.split({1}), "BlockMask::split", "plan a", "before sharding");
  EXPECT_ERROR(mask.batch_row(0), "batch_row", "plan a");
  EXPECT_ERROR(mask.select_q_blocks({0}), "select_q_blocks", "plan a");
  EXPECT_ERROR(mask.select_kv_blocks({0}), "select_kv_blocks", "plan a");
  EXPECT_ERROR(mask.crop(1, 1), "crop", "plan a");
  EXPECT_ERROR(to_bytes(mask), "to_bytes", "plan a");
}

// The mask of the first tokens is the mask of fewer tokens.
TEST(BlockMaskPartsTest, CropIsAFreshMaskOfTheCroppedLengths) {
  for (uint32_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask whole = random_mask(seed, 40);
    MaskShape shape = whole.mask.shape();
    RandomRules random(seed + 1, 1);
    shape.q_len = random.uniform(1, shape.q_len);
    shape.kv_len = random.uniform(1, shape.kv_len);
    const BlockMask cropped = whole.mask.crop(shape.q_len, shape.kv_len);
    ASSERT_EQ(cropped, create_block_mask(whole.rule, shape));
    ASSERT_EQ(cropped, block_mask_from_dense(
                           whole.dense_BHTS.narrow(2, 0, shape.q_len).narrow(3, 0, shape.kv_len),
                           shape.block));
  }
}

TEST(BlockMaskPartsTest, RefusesToCropToMore) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 16, .kv_len = 16});
  EXPECT_ERROR(mask.crop(17, 8), "17 x 8", "1 to 16 queries");
  EXPECT_ERROR(mask.crop(8, 0), "8 x 0");
}

// Rows [a, b) of a mask are the mask that is built with that offset.
TEST(BlockMaskPartsTest, OffsetRulesAreSlices) {
  for (uint32_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 40);
    const testing::RandomRule rule = random.rule(2, 3);
    MaskShape shape = testing::random_shape(random, 40);
    shape.batch = 2;
    const at::Tensor whole = testing::dense_from_rule(rule.allows, shape);
    const int64_t q_offset = random.uniform(0, shape.q_len - 1);
    const int64_t kv_offset = random.uniform(0, shape.kv_len - 1);
    shape.q_len -= q_offset;
    shape.kv_len -= kv_offset;
    ASSERT_TRUE(
        create_block_mask(offset(rule.rule, q_offset, kv_offset), shape)
            .to_dense()
            .equal(whole.narrow(2, q_offset, shape.q_len).narrow(3, kv_offset, shape.kv_len)));
  }
}

}  // namespace
}  // namespace tessera
