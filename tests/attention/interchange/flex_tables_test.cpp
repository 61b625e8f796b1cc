#include "attention/interchange/flex_tables.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "tests/attention/masks/random_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::random_mask;
using testing::RandomMask;

TEST(FlexTablesTest, ComesBackTheSame) {
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomMask random = random_mask(seed, 30);
    for (const bool separate : {true, false}) {
      ASSERT_EQ(from_flex(to_flex(random.mask, separate), random.rule), random.mask)
          << random.rule.to_string();
    }
  }
}

// The tables decide which tiles are looked at, the rule only what is in partial ones.
TEST(FlexTablesTest, TablesOverruleTheRule) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 8, .kv_len = 8, .block = {4, 4}});
  FlexTables tables = to_flex(mask);
  tables.kv_num_blocks_BHR = at::tensor(std::vector<int32_t>{1, 0}, at::kInt).view({1, 1, 2});
  const BlockMask fewer = from_flex(tables, causal());
  EXPECT_EQ(fewer.num_pairs(), 10 + 16);
  EXPECT_EQ(from_flex(tables, full()).num_pairs(), 16 + 16);
  EXPECT_EQ(from_flex(tables, none()).num_pairs(), 16);
}

TEST(FlexTablesTest, RefusesBadTables) {
  const BlockMask mask = create_block_mask(causal(), {.q_len = 8, .kv_len = 8, .block = {4, 4}});
  const FlexTables good = to_flex(mask);
  FlexTables tables = good;
  tables.kv_num_blocks_BHR = at::Tensor();
  EXPECT_ERROR(from_flex(tables, causal()), "kv_num_blocks", "no tensor", "int32");
  tables = good;
  tables.kv_indices_BHRC = tables.kv_indices_BHRC.to(at::kLong);
  EXPECT_ERROR(from_flex(tables, causal()), "kv_indices", "Long", "int32");
  tables = good;
  tables.q_len = 20;
  EXPECT_ERROR(from_flex(tables, causal()), "kv_num_blocks", "[1, 1, 2]", "[B, H, 5]");
  tables = good;
  tables.kv_len = 20;
  EXPECT_ERROR(from_flex(tables, causal()), "indices", "[1, 1, 2, 2]", "[1, 1, 2, 5]");
  tables = good;
  tables.q_len = 0;
  EXPECT_ERROR(from_flex(tables, causal()), "q_len", "got 0");
  tables = good;
  tables.kv_num_blocks_BHR = tables.kv_num_blocks_BHR.add(2);
  EXPECT_ERROR(from_flex(tables, causal()), "count of 3", "row 0", "0 to 2");
  tables = good;
  tables.kv_indices_BHRC = tables.kv_indices_BHRC.sub(1);
  EXPECT_ERROR(from_flex(tables, causal()), "column -1", "row 0");
  tables = good;
  tables.full_kv_indices_BHRC = tables.kv_indices_BHRC;
  EXPECT_ERROR(from_flex(tables, causal()), "column 1 twice in row 1");
  tables = good;
  tables.full_kv_num_blocks_BHR = tables.full_kv_num_blocks_BHR.expand({2, 1, 2});
  tables.full_kv_indices_BHRC = tables.full_kv_indices_BHRC.expand({2, 1, 2, 2});
  EXPECT_ERROR(from_flex(tables, causal()), "full_kv_num_blocks", "[2, 1, 2]", "[1, 1, 2]");
  const MaskMod short_rule = document(at::tensor(std::vector<int64_t>{0, 0, 1}));
  EXPECT_ERROR(from_flex(good, short_rule), "from_flex(document)", "q_len", "got 8");
}

}  // namespace
}  // namespace tessera
