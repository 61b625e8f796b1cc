#include "attention/interchange/flex_tables.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "attention/block_mask/fill_tile.h"
#include "attention/block_mask/run_writer.h"
#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

// The tiles of one class (partial or full): a table of counts and a table of indices, by rows or by
// columns.
struct Table {
  at::Tensor num;
  at::Tensor indices;
};

// The table of the tiles that are present. present is [groups * rows][columns].
Table table_of(const std::vector<std::vector<bool>>& present, const MaskShape& shape,
               int64_t num_rows, int64_t num_columns) {
  Table table;
  table.num = at::zeros({shape.batch, shape.heads, num_rows}, at::kInt);
  table.indices = at::empty({shape.batch, shape.heads, num_rows, num_columns}, at::kInt);
  auto* num = table.num.mutable_data_ptr<int32_t>();
  auto* index = table.indices.mutable_data_ptr<int32_t>();
  for (size_t row = 0; row < present.size(); ++row) {
    for (const bool wanted : {true, false}) {
      for (int32_t column = 0; column < num_columns; ++column) {
        if (present[row][column] != wanted) continue;
        *index++ = column;
        if (wanted) ++num[row];
      }
    }
  }
  return table;
}

std::vector<std::vector<bool>> transposed(const std::vector<std::vector<bool>>& rows,
                                          int64_t num_rows, int64_t num_columns) {
  const auto groups = static_cast<int64_t>(rows.size()) / num_rows;
  std::vector<std::vector<bool>> columns(groups * num_columns, std::vector<bool>(num_rows));
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t row = 0; row < num_rows; ++row) {
      for (int64_t column = 0; column < num_columns; ++column) {
        columns[group * num_columns + column][row] = rows[group * num_rows + row][column];
      }
    }
  }
  return columns;
}

// The columns of one row of a table, checked to be in range. `name` is the field's, for messages.
std::vector<int32_t> read_row(const char* name, const Table& table, int64_t row,
                              int64_t num_columns) {
  const int32_t count = table.num.const_data_ptr<int32_t>()[row];
  TORCH_CHECK(count >= 0 && count <= num_columns, "from_flex: ", name, ": got a count of ", count,
              " in row ", row, ", expected 0 to ", num_columns);
  const int32_t* indices = table.indices.const_data_ptr<int32_t>() + row * num_columns;
  for (int32_t i = 0; i < count; ++i) {
    TORCH_CHECK(indices[i] >= 0 && indices[i] < num_columns, "from_flex: ", name, ": got column ",
                indices[i], " in row ", row, ", expected 0 to ", num_columns - 1);
  }
  return {indices, indices + count};
}

Table checked_table(const char* name, const at::Tensor& num, const at::Tensor& indices,
                    int64_t num_rows, int64_t num_columns) {
  for (const at::Tensor& tensor : {num, indices}) {
    TORCH_CHECK(
        tensor.defined() && tensor.scalar_type() == at::kInt && tensor.device().is_cpu(),
        "from_flex: ", name, ": got ",
        tensor.defined() ? c10::str(tensor.scalar_type(), " on ", tensor.device()) : "no tensor",
        ", expected Int (int32) on the CPU");
  }
  TORCH_CHECK(num.dim() == 3 && num.size(2) == num_rows, "from_flex: ", name,
              ": got counts of shape ", num.sizes(), ", expected [B, H, ", num_rows, "]");
  const std::vector<int64_t> expected{num.size(0), num.size(1), num_rows, num_columns};
  TORCH_CHECK(indices.sizes() == expected, "from_flex: ", name, ": got indices of shape ",
              indices.sizes(), ", expected ", c10::IntArrayRef(expected));
  return {num.contiguous(), indices.contiguous()};
}

// Tiles of one row, ascending: column and whether it is full.
std::vector<std::pair<int32_t, bool>> merged_row(const Table& partial, const Table& full,
                                                 int64_t row, int64_t num_columns) {
  std::vector<std::pair<int32_t, bool>> tiles;
  for (const int32_t column : read_row("kv_indices", partial, row, num_columns)) {
    tiles.emplace_back(column, false);
  }
  if (full.num.defined()) {
    for (const int32_t column : read_row("full_kv_indices", full, row, num_columns)) {
      tiles.emplace_back(column, true);
    }
  }
  std::sort(tiles.begin(), tiles.end());
  for (size_t i = 1; i < tiles.size(); ++i) {
    TORCH_CHECK(tiles[i].first != tiles[i - 1].first, "from_flex: kv_indices: got column ",
                tiles[i].first, " twice in row ", row, ", expected each once");
  }
  return tiles;
}

}  // namespace

FlexTables to_flex(const BlockMask& mask, bool separate_full_blocks) {
  const BlockMaskData& data = mask.data();
  const MaskShape& shape = mask.shape();
  const int64_t num_rows = data.num_q_blocks();
  const int64_t num_columns = data.num_kv_blocks();
  const std::vector<bool> no_tile(num_columns);
  std::vector<std::vector<bool>> partial(num_tile_rows(data), no_tile);
  std::vector<std::vector<bool>> full = partial;
  for (int64_t row = 0; row < num_tile_rows(data); ++row) {
    const bool ragged_q = (row % num_rows + 1) * shape.block.q > shape.q_len;
    for (const BlockRun& run : runs_of_row(data, row)) {
      for (int64_t column = run.begin; column < run.end; ++column) {
        const bool ragged = ragged_q || (column + 1) * shape.block.kv > shape.kv_len;
        const bool is_full = run.full() && !ragged && separate_full_blocks;
        (is_full ? full : partial)[row][column] = true;
      }
    }
  }
  const auto by_columns = [&](const std::vector<std::vector<bool>>& rows) {
    return table_of(transposed(rows, num_rows, num_columns), shape, num_columns, num_rows);
  };
  const Table kv = table_of(partial, shape, num_rows, num_columns);
  const Table q = by_columns(partial);
  FlexTables tables{.kv_num_blocks_BHR = kv.num,
                    .kv_indices_BHRC = kv.indices,
                    .q_num_blocks_BHC = q.num,
                    .q_indices_BHCR = q.indices,
                    .q_len = shape.q_len,
                    .kv_len = shape.kv_len,
                    .block = shape.block};
  if (separate_full_blocks) {
    const Table full_kv = table_of(full, shape, num_rows, num_columns);
    const Table full_q = by_columns(full);
    tables.full_kv_num_blocks_BHR = full_kv.num;
    tables.full_kv_indices_BHRC = full_kv.indices;
    tables.full_q_num_blocks_BHC = full_q.num;
    tables.full_q_indices_BHCR = full_q.indices;
  }
  return tables;
}

BlockMask from_flex(const FlexTables& tables, const MaskMod& rule) {
  MaskShape shape{.q_len = tables.q_len, .kv_len = tables.kv_len, .block = tables.block};
  check_mask_shape(shape);
  const int64_t num_rows = (shape.q_len + shape.block.q - 1) / shape.block.q;
  const int64_t num_columns = (shape.kv_len + shape.block.kv - 1) / shape.block.kv;
  const Table partial = checked_table("kv_num_blocks, kv_indices", tables.kv_num_blocks_BHR,
                                      tables.kv_indices_BHRC, num_rows, num_columns);
  Table full;
  if (tables.full_kv_num_blocks_BHR.defined()) {
    full = checked_table("full_kv_num_blocks, full_kv_indices", tables.full_kv_num_blocks_BHR,
                         tables.full_kv_indices_BHRC, num_rows, num_columns);
    TORCH_CHECK(full.num.sizes() == partial.num.sizes(),
                "from_flex: full_kv_num_blocks: got shape ", full.num.sizes(), ", expected ",
                partial.num.sizes());
  }
  shape.batch = partial.num.size(0);
  shape.heads = partial.num.size(1);
  check_mask_shape(shape);
  check_rule_fits("from_flex", rule, shape);

  TileStore tiles(shape.block);
  RunWriter writer(shape);
  std::vector<uint64_t> words(tiles.words_per_tile());
  for (int64_t row = 0; row < shape.batch * shape.heads * num_rows; ++row) {
    const int64_t group = row / num_rows;
    const TokenRange queries = block_tokens(row % num_rows, shape.block.q, shape.q_len);
    for (const auto& [column, is_full] : merged_row(partial, full, row, num_columns)) {
      if (is_full) {
        writer.add_full(column, column + 1);
        continue;
      }
      const TokenRange keys = block_tokens(column, shape.block.kv, shape.kv_len);
      fill_tile(rule, group / shape.heads, group % shape.heads, queries, keys, shape.block,
                words.data());
      writer.add_tile(column, tiles.add_bits(words.data(), queries.size(), keys.size()));
    }
    writer.end_row();
  }
  return writer.finish(tiles.take_bits());
}

}  // namespace tessera
