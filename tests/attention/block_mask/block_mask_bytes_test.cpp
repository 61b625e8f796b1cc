#include "attention/block_mask/block_mask_bytes.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/attention/masks/random_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::random_mask;

TEST(BlockMaskBytesTest, ComesBackTheSame) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const BlockMask mask = random_mask(seed, 40).mask;
    const BlockMask back = block_mask_from_bytes(to_bytes(mask));
    ASSERT_EQ(back, mask);
    ASSERT_TRUE(back.data() == mask.data());
  }
}

TEST(BlockMaskBytesTest, SayWhoseTokensAMaskIsOver) {
  const BlockMask mask =
      create_block_mask(full(), {.q_len = 6, .kv_len = 6, .sequence = MaskSequence::kOwn});
  EXPECT_EQ(to_bytes(mask).substr(0, 8), "TSOWN01\n");
  EXPECT_EQ(block_mask_from_bytes(to_bytes(mask)), mask);
}

class BlockMaskBytesErrors : public ::testing::Test {
 protected:
  // Causal in blocks of 2: rows [p], [f p], [f2 p].
  std::string bytes_ =
      to_bytes(create_block_mask(causal(), {.q_len = 6, .kv_len = 6, .block = {2, 2}}));

  static constexpr size_t kRuns = 8 + 9 * 8 + 4 * 4;  // magic, header, offsets

  void set_run(int64_t run, int64_t field, int32_t value) {
    std::memcpy(&bytes_[kRuns + (run * 3 + field) * 4], &value, 4);
  }
};

TEST_F(BlockMaskBytesErrors, RefusesWhatIsNoMask) {
  EXPECT_ERROR(block_mask_from_bytes(""), "got 0 bytes", "TSMASK1");
  EXPECT_ERROR(block_mask_from_bytes("TSMASK2\n"), "do not begin");
  EXPECT_ERROR(block_mask_from_bytes("TSMASK1\n"), "header", "got 0 bytes at byte 8", "72");
}

TEST_F(BlockMaskBytesErrors, RefusesEveryTruncation) {
  for (size_t size = 0; size < bytes_.size(); ++size) {
    EXPECT_ERROR(block_mask_from_bytes(bytes_.substr(0, size)), "block mask bytes");
  }
  EXPECT_ERROR(block_mask_from_bytes(bytes_ + "x"), "1 bytes after the end");
}

TEST_F(BlockMaskBytesErrors, RefusesUnsortedAndOverlappingRuns) {
  const std::string good = bytes_;
  set_run(2, 0, 0);  // the partial tile of row 1 over its full one
  set_run(2, 1, 1);
  EXPECT_ERROR(block_mask_from_bytes(bytes_), "row of tiles 1", "ascending", "overlap");
  bytes_ = good;
  set_run(1, 0, 1);  // the full tile of row 1 after its partial one
  set_run(1, 1, 2);
  EXPECT_ERROR(block_mask_from_bytes(bytes_), "row of tiles 1", "begins at block 1");
  bytes_ = good;
  set_run(0, 2, 9);
  EXPECT_ERROR(block_mask_from_bytes(bytes_), "tile 9", "below 1");
}

TEST_F(BlockMaskBytesErrors, RefusesCountsBeyondTheText) {
  const int64_t huge = int64_t{1} << 62;
  std::memcpy(&bytes_[8 + 6 * 8], &huge, 8);
  EXPECT_ERROR(block_mask_from_bytes(bytes_), "row_offsets", "count of");
  const int64_t negative = -1;
  std::memcpy(&bytes_[8 + 6 * 8], &negative, 8);
  EXPECT_ERROR(block_mask_from_bytes(bytes_), "count of -1");
}

// Any text is either a mask or an error.
TEST_F(BlockMaskBytesErrors, SurvivesRandomChanges) {
  std::mt19937 random(3);
  int num_masks = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = bytes_;
    for (uint32_t j = random() % 3 + 1; j > 0; --j) {
      bytes[random() % bytes.size()] =
          static_cast<char>(random() % 4 == 0 ? random() : random() % 4);
    }
    try {
      const BlockMask mask = block_mask_from_bytes(bytes);
      ASSERT_EQ(to_bytes(mask), bytes);
      ++num_masks;
    } catch (const c10::Error&) {
    }
  }
  EXPECT_GT(num_masks, 100);
}

}  // namespace
}  // namespace tessera
