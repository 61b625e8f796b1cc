// Masks of PyTorch and TorchTitan; see tests/golden/attention/README.md.
#include <gtest/gtest.h>

#include "attention/block_mask/block_mask.h"
#include "attention/interchange/flex_tables.h"
#include "attention/interchange/varlen.h"
#include "data/loader/packing.h"
#include "tests/attention/block_mask/oracle_rules.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/golden_tensors.h"

namespace tessera {
namespace {

using nlohmann::json;
using testing::golden;
using testing::GoldenTensors;
using testing::oracle_rule;
using testing::read_json;

BlockSize block_of(const json& size) {
  return size.is_array() ? BlockSize{size[0], size[1]} : BlockSize{size, size};
}

struct NamedTable {
  const char* name;
  at::Tensor FlexTables::*tensor;
};

constexpr NamedTable kTables[] = {
    {"kv_num_blocks", &FlexTables::kv_num_blocks_BHR},
    {"kv_indices", &FlexTables::kv_indices_BHRC},
    {"full_kv_num_blocks", &FlexTables::full_kv_num_blocks_BHR},
    {"full_kv_indices", &FlexTables::full_kv_indices_BHRC},
    {"q_num_blocks", &FlexTables::q_num_blocks_BHC},
    {"q_indices", &FlexTables::q_indices_BHCR},
    {"full_q_num_blocks", &FlexTables::full_q_num_blocks_BHC},
    {"full_q_indices", &FlexTables::full_q_indices_BHCR},
};

// All eight tables, entries after the counts included: PyTorch sorts the other columns behind.
void expect_tables(const FlexTables& tables, const GoldenTensors& tensors,
                   const std::string& prefix) {
  for (const NamedTable& table : kTables) {
    const at::Tensor& ours = tables.*table.tensor;
    ASSERT_EQ(ours.defined(), tensors.has(prefix + table.name)) << table.name;
    if (ours.defined()) {
      EXPECT_TRUE(ours.equal(tensors.get(prefix + table.name))) << prefix << table.name;
    }
  }
}

// PyTorch divides whole tiles by the pairs that exist, so its figure goes negative on ragged
// lengths; ours counts in-range pairs only.
double pytorch_sparsity(const BlockMask& mask) {
  const MaskShape& shape = mask.shape();
  int64_t tiles = 0;
  for (const BlockRun& run : mask.data().runs) tiles += run.end - run.begin;
  const double pairs = static_cast<double>(shape.batch * shape.heads * shape.q_len * shape.kv_len);
  return 100.0 * (1.0 - static_cast<double>(tiles * shape.block.q * shape.block.kv) / pairs);
}

void expect_sparsity(const BlockMask& mask, const json& expected) {
  const MaskShape& shape = mask.shape();
  const double theirs = expected["sparsity"];
  EXPECT_NEAR(pytorch_sparsity(mask), theirs, 1e-9);
  if (shape.q_len % shape.block.q == 0 && shape.kv_len % shape.block.kv == 0) {
    EXPECT_NEAR(mask.sparsity(), theirs, 1e-12);
  } else {
    EXPECT_GE(mask.sparsity(), 0.0);
  }
}

class BlockMaskOracleTest : public ::testing::Test {
 protected:
  static BlockMask build(const json& c) {
    const auto size_or_1 = [&](const char* key) {
      return c[key].is_null() ? 1 : c[key].get<int64_t>();
    };
    const MaskShape shape{.batch = size_or_1("B"),
                          .heads = size_or_1("H"),
                          .q_len = c["Q_LEN"],
                          .kv_len = c["KV_LEN"],
                          .block = block_of(c["BLOCK_SIZE"])};
    return create_block_mask(oracle_rule(c["mask_mod"], std::max(shape.q_len, shape.kv_len)),
                             shape);
  }

  const json& find(const std::string& name) const {
    for (const json& c : cases_) {
      if (c["name"] == name) return c;
    }
    throw std::runtime_error("no case " + name);
  }

  json cases_ = read_json(golden("attention/block_masks.json"))["cases"];
  GoldenTensors tensors_{golden("attention/block_masks.safetensors")};
};

TEST_F(BlockMaskOracleTest, EqualsCreateBlockMask) {
  int num_cases = 0;
  for (const json& c : cases_) {
    if (!c.contains("mask_mod")) continue;
    ++num_cases;
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const BlockMask mask = build(c);
    const json& expected = c["expected"];
    expect_tables(to_flex(mask, c["separate_full_blocks"]), tensors_, name + "/");
    if (tensors_.has(name + "/mask")) {  // left out for the longest mask
      const at::Tensor elements = tensors_.bits(name + "/mask", expected["element_shape"]);
      EXPECT_TRUE(mask.to_dense().equal(elements));
      EXPECT_EQ(mask.num_pairs(), expected["true_count"].get<int64_t>());
    }
    EXPECT_EQ(mask.to_string(), expected["to_string"].get<std::string>());
    expect_sparsity(mask, expected);
  }
  EXPECT_EQ(num_cases, 99);
}

TEST_F(BlockMaskOracleTest, SlicesEqualIndexing) {
  const BlockMask source = build(find("source_document"));
  expect_tables(to_flex(source.batch_row(2)), tensors_, "slice_batch_int/");
  expect_tables(to_flex(source.batch_row(3)), tensors_, "slice_batch_negative/");
  expect_tables(to_flex(source.split({1, 2, 1})[1]), tensors_, "slice_batch_slice/");
  expect_tables(to_flex(source.split({2, 2})[0]), tensors_, "slice_batch_head/");
  expect_tables(to_flex(source.select_q_blocks({1, 2, 3, 4, 5})), tensors_, "slice_query_slice/");
  // PyTorch keeps the lengths of the whole mask, so it may put the short last block anywhere; ours
  // knows the lengths of the part, and queries would no longer be contiguous.
  EXPECT_ERROR(source.select_q_blocks({6, 0}), "block 6", "expected it last");
}

// _adjust drops the true lengths (its result is rounded up, so tiles stay full that are not) and
// keeps columns that no longer exist; a crop is the mask of the cropped lengths.
TEST_F(BlockMaskOracleTest, CropsEqualFreshMasks) {
  const BlockMask source = build(find("source_document"));
  int num_cases = 0;
  for (const json& c : cases_) {
    if (!c.contains("new_lengths")) continue;
    ++num_cases;
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const json& lengths = c["new_lengths"];
    const BlockMask cropped = source.crop(lengths[0], lengths[1]);
    if (tensors_.has(name + "/fresh_kv_num_blocks")) {
      expect_tables(to_flex(cropped), tensors_, name + "/fresh_");
    }
    json fresh = find("source_document");
    fresh["Q_LEN"] = lengths[0];
    fresh["KV_LEN"] = lengths[1];
    EXPECT_EQ(cropped, build(fresh));
  }
  EXPECT_EQ(num_cases, 4);
}

TEST_F(BlockMaskOracleTest, TablesComeBackFromKvBlocks) {
  // No tile of this rule is full or empty, so partial tiles stay partial.
  const MaskMod every_other = mask_fn(
      "every_other", {}, [](int64_t, int64_t, int64_t q, int64_t kv) { return (q + kv) % 2 == 0; });
  for (const char* name : {"from_kv_blocks_partial_only", "from_kv_blocks_with_full"}) {
    SCOPED_TRACE(name);
    const std::string prefix = std::string(name) + "/";
    FlexTables tables{.kv_num_blocks_BHR = tensors_.get(prefix + "kv_num_blocks"),
                      .kv_indices_BHRC = tensors_.get(prefix + "kv_indices"),
                      .q_len = 48,
                      .kv_len = 48,
                      .block = {16, 16}};
    const bool with_full = tensors_.has(prefix + "full_kv_num_blocks");
    if (with_full) {
      tables.full_kv_num_blocks_BHR = tensors_.get(prefix + "full_kv_num_blocks");
      tables.full_kv_indices_BHRC = tensors_.get(prefix + "full_kv_indices");
    }
    const BlockMask mask = from_flex(tables, every_other);
    const FlexTables again = to_flex(mask, with_full);
    EXPECT_TRUE(again.q_num_blocks_BHC.equal(tensors_.get(prefix + "q_num_blocks")));
    EXPECT_TRUE(again.kv_num_blocks_BHR.equal(tables.kv_num_blocks_BHR));
    if (with_full) {
      EXPECT_TRUE(again.full_q_num_blocks_BHC.equal(tensors_.get(prefix + "full_q_num_blocks")));
    }
    EXPECT_EQ(from_flex(again, every_other), mask);
    expect_sparsity(mask, find(name)["expected"]);
  }
}

// The rule and the length of a TorchTitan case.
std::pair<MaskMod, int64_t> titan_rule(const json& c) {
  if (c.contains("tokens")) {
    const at::Tensor tokens_BT = testing::rows_tensor(c["tokens"]);
    return {causal() & document(document_ids_from_eos(tokens_BT, c["eos_id"])), tokens_BT.size(1)};
  }
  if (c.contains("window")) {
    return {sliding_window({.left = c["window"].get<int64_t>() - 1, .right = 0}), c["length"]};
  }
  return {causal() & chunked(c["size"]), c["length"]};
}

TEST(TitanMaskOracleTest, EqualsTorchTitan) {
  const json cases = read_json(golden("attention/titan_masks.json"))["cases"];
  const GoldenTensors tensors(golden("attention/titan_masks.safetensors"));
  ASSERT_EQ(cases.size(), 11U);
  for (const json& c : cases) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const auto [rule, num_tokens] = titan_rule(c);
    MaskShape shape{.batch = rule.batch_size(), .q_len = num_tokens, .kv_len = num_tokens};
    if (c.contains("BLOCK_SIZE")) shape.block = block_of(c["BLOCK_SIZE"]);
    const BlockMask mask = create_block_mask(rule, shape);
    const at::Tensor elements =
        tensors.bits(name + "/mask", {shape.batch, 1, num_tokens, num_tokens});
    EXPECT_TRUE(mask.to_dense().equal(elements));
    EXPECT_EQ(mask.num_pairs(), c["expected"]["true_count"].get<int64_t>());
    if (!c.contains("tokens")) continue;
    expect_tables(to_flex(mask), tensors, name + "/");
    const std::optional<Varlen> varlen = to_varlen(mask, shape.batch);
    ASSERT_TRUE(varlen);
    EXPECT_EQ(varlen->cu_seqlens, c["expected"]["cu_seqlens"].get<std::vector<int32_t>>());
    EXPECT_EQ(varlen->max_seqlen, c["expected"]["max_seqlen"].get<int32_t>());
    // Where no document has a second token, any window says the same and ours says "unbounded".
    if (varlen->max_seqlen > 1) {
      EXPECT_EQ(varlen->window, (Window{.left = {}, .right = 0}));
    }
  }
}

}  // namespace
}  // namespace tessera
