// Masks of PyTorch and TorchTitan; see tests/golden/attention/README.md.
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "attention/block_mask.h"
#include "tests/support/golden.h"
#include "tests/support/golden_tensors.h"

namespace tessera {
namespace {

using nlohmann::json;
using testing::golden;
using testing::GoldenTensors;
using testing::read_json;

// The documents of a row may be shorter than the mask: the oracle repeats nothing, it clips.
MaskMod document_rule(const json& doc_lens) {
  std::vector<int64_t> ids;
  for (const json& row : doc_lens) {
    int64_t id = 0;
    for (const json& length : row) ids.insert(ids.end(), length.get<int64_t>(), id++);
  }
  return document(at::tensor(ids).view({static_cast<int64_t>(doc_lens.size()), -1}));
}

MaskMod rule_of(const json& expression) {
  const std::string op = expression["op"];
  if (op == "causal") return causal();
  if (op == "full") return full();
  if (op == "none") return none();
  if (op == "document") return document_rule(expression["doc_lens"]);
  if (op == "not") return ~rule_of(expression["arg"]);
  std::vector<MaskMod> rules;
  for (const json& arg : expression["args"]) rules.push_back(rule_of(arg));
  return op == "and" ? and_masks(rules) : or_masks(rules);
}

BlockSize block_of(const json& size) {
  return size.is_array() ? BlockSize{size[0], size[1]} : BlockSize{size, size};
}

using Columns = std::set<int64_t>;

// The first `count` columns of one row of a PyTorch table.
Columns table_row(const GoldenTensors& tensors, const std::string& prefix, const char* count_name,
                  const char* index_name, int64_t row) {
  if (!tensors.has(prefix + count_name)) return {};
  const at::Tensor counts = tensors.get(prefix + count_name).flatten();
  const at::Tensor indices = tensors.get(prefix + index_name).flatten(0, 2)[row];
  Columns columns;
  for (int64_t i = 0; i < counts[row].item<int64_t>(); ++i) {
    columns.insert(indices[i].item<int64_t>());
  }
  return columns;
}

// Our runs as PyTorch classes them: a full tile on a ragged edge is partial there, and so is any
// full tile when full blocks are not kept apart.
struct TableRow {
  Columns partial;
  Columns full;
};

TableRow as_table_row(const BlockMask& mask, int64_t row, bool separate_full_blocks) {
  const BlockMaskData& data = mask.data();
  const MaskShape& shape = data.shape;
  const int64_t q_block = row % data.num_q_blocks();
  const int64_t group = row / data.num_q_blocks();
  const bool ragged_q = (q_block + 1) * shape.block.q > shape.q_len;
  TableRow result;
  for (const BlockRun& run : mask.runs(group / shape.heads, group % shape.heads, q_block)) {
    for (int64_t column = run.begin; column < run.end; ++column) {
      const bool ragged = ragged_q || (column + 1) * shape.block.kv > shape.kv_len;
      const bool full = run.full() && !ragged && separate_full_blocks;
      (full ? result.full : result.partial).insert(column);
    }
  }
  return result;
}

void expect_tables(const BlockMask& mask, const GoldenTensors& tensors, const std::string& prefix,
                   bool separate_full_blocks) {
  const int64_t num_rows = static_cast<int64_t>(mask.data().row_offsets.size()) - 1;
  ASSERT_EQ(tensors.get(prefix + "kv_num_blocks").numel(), num_rows);
  for (int64_t row = 0; row < num_rows; ++row) {
    const TableRow ours = as_table_row(mask, row, separate_full_blocks);
    EXPECT_EQ(ours.partial, table_row(tensors, prefix, "kv_num_blocks", "kv_indices", row))
        << prefix << " row " << row;
    EXPECT_EQ(ours.full, table_row(tensors, prefix, "full_kv_num_blocks", "full_kv_indices", row))
        << prefix << " row " << row;
  }
}

void expect_case(const BlockMask& mask, const json& expected, const GoldenTensors& tensors,
                 const std::string& prefix, bool separate_full_blocks) {
  expect_tables(mask, tensors, prefix, separate_full_blocks);
  const MaskShape& shape = mask.shape();
  const at::Tensor elements =
      tensors.bits(prefix + "mask", {shape.batch, shape.heads, shape.q_len, shape.kv_len});
  EXPECT_TRUE(mask.to_dense().equal(elements)) << prefix;
  EXPECT_EQ(mask.num_pairs(), expected["true_count"].get<int64_t>()) << prefix;
  if (shape.q_len % shape.block.q == 0 && shape.kv_len % shape.block.kv == 0) {
    EXPECT_NEAR(mask.sparsity(), expected["sparsity"].get<double>(), 1e-12) << prefix;
  }
}

TEST(BlockMaskOracleTest, EqualsPyTorch) {
  const json cases = read_json(golden("attention/block_masks.json"))["cases"];
  const GoldenTensors tensors(golden("attention/block_masks.safetensors"));
  ASSERT_EQ(cases.size(), 24U);
  for (const json& c : cases) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const auto size_or_1 = [&](const char* key) {
      return c[key].is_null() ? 1 : c[key].get<int64_t>();
    };
    const MaskShape shape{.batch = size_or_1("B"),
                          .heads = size_or_1("H"),
                          .q_len = c["Q_LEN"],
                          .kv_len = c["KV_LEN"],
                          .block = block_of(c["BLOCK_SIZE"])};
    const BlockMask mask = create_block_mask(rule_of(c["mask_mod"]), shape);
    expect_case(mask, c["expected"], tensors, name + "/", c["separate_full_blocks"]);
  }
}

// An EOS belongs to the document that it ends.
MaskMod document_from_eos(const json& tokens, int64_t eos_id) {
  std::vector<int64_t> ids;
  for (const json& row : tokens) {
    int64_t id = 0;
    for (const json& token : row) {
      ids.push_back(id);
      if (token.get<int64_t>() == eos_id) ++id;
    }
  }
  return document(at::tensor(ids).view({static_cast<int64_t>(tokens.size()), -1}));
}

TEST(BlockMaskOracleTest, EqualsTorchTitanOnDocuments) {
  const json cases = read_json(golden("attention/titan_masks.json"))["cases"];
  const GoldenTensors tensors(golden("attention/titan_masks.safetensors"));
  ASSERT_EQ(cases.size(), 5U);
  for (const json& c : cases) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const int64_t num_tokens = c["tokens"][0].size();
    const MaskMod rule = causal() & document_from_eos(c["tokens"], c["eos_id"]);
    const BlockMask mask = create_block_mask(rule, {.batch = rule.batch_size(),
                                                    .q_len = num_tokens,
                                                    .kv_len = num_tokens,
                                                    .block = block_of(c["BLOCK_SIZE"])});
    expect_case(mask, c["expected"], tensors, name + "/", /*separate_full_blocks=*/true);
  }
}

}  // namespace
}  // namespace tessera
