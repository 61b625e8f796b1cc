#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

namespace {

// Present tiles of each cell of `step` columns, added up over the rows of tiles of one grid row.
void count_tiles(c10::ArrayRef<BlockRun> runs, int64_t step, std::vector<int64_t>& cells) {
  for (const BlockRun& run : runs) {
    for (int64_t cell = run.begin / step; cell * step < run.end; ++cell) {
      const TokenRange columns = {std::max<int64_t>(run.begin, cell * step),
                                  std::min<int64_t>(run.end, (cell + 1) * step)};
      cells[cell] += columns.size();
    }
  }
}

}  // namespace

// After torch.nn.attention.flex_attention.BlockMask.to_string, PyTorch 2.13.
std::string BlockMask::to_string(int64_t max_rows, int64_t max_cols, int64_t limit) const {
  TORCH_CHECK(max_rows >= 1 && max_cols >= 1 && limit >= 0, "BlockMask::to_string: got max_rows ",
              max_rows, ", max_cols ", max_cols, ", limit ", limit,
              ", expected at least 1, 1 and 0");
  const int64_t num_rows = data().num_q_blocks();
  const int64_t num_cols = data().num_kv_blocks();
  const int64_t row_step = (num_rows + max_rows - 1) / max_rows;
  const int64_t col_step = (num_cols + max_cols - 1) / max_cols;
  std::vector<std::string> pictures;
  for (int64_t group = 0; group < shape().batch * shape().heads; ++group) {
    if (group == limit) {
      pictures.emplace_back("...");
      pictures.emplace_back("To print out more, set BlockMask.to_string(limit=N)");
      pictures.emplace_back(
          "You can also index (BlockMask[batch, head]) to choose a specific batch or head");
      break;
    }
    std::string picture = c10::str("(", group / shape().heads, ", ", group % shape().heads, ")\n");
    for (int64_t row = 0; row < num_rows; row += row_step) {
      const int64_t row_end = std::min(row + row_step, num_rows);
      std::vector<int64_t> cells((num_cols + col_step - 1) / col_step);
      for (int64_t r = row; r < row_end; ++r) {
        count_tiles(runs_of_row(data(), group * num_rows + r), col_step, cells);
      }
      for (size_t cell = 0; cell < cells.size(); ++cell) {
        const int64_t col = static_cast<int64_t>(cell) * col_step;
        const int64_t all = (row_end - row) * (std::min(col + col_step, num_cols) - col);
        picture += cells[cell] == all ? "██" : cells[cell] == 0 ? "  " : "░░";
      }
      picture += "\n";
    }
    pictures.push_back(std::move(picture));
  }
  return c10::Join("\n", pictures);
}

}  // namespace tessera
