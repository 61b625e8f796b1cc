// The state that the copies of a BlockMask share (its arrays, and what is derived from them once),
// and the index arithmetic of its arrays. Internal to attention/.
//
// Functions here that say nothing of errors do not check their arguments.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// The runs of every column of tiles: column (b * heads + h) * num_kv_blocks + kv_block owns the
// runs from offsets[column] to offsets[column + 1], over query blocks.
struct TransposedRuns {
  std::vector<int32_t> offsets{};
  std::vector<BlockRun> runs{};
};

struct BlockMask::Shared {
  explicit Shared(BlockMaskData mask_data) : data(std::move(mask_data)) {}

  // Makes a mask of arrays that are right by construction, without a check.
  static BlockMask trusted(BlockMaskData data) {
    return BlockMask(std::make_shared<Shared>(std::move(data)));
  }

  const BlockMaskData data;

  std::mutex mutex;  // guards what follows
  std::optional<bool> causal;
  std::optional<TransposedRuns> transposed;
  std::vector<at::Tensor> square_forms;  // dense and additive forms, told apart by dtype and device
};

// Says whether all, none or some of the in-range pairs of a tile are set. The answer is exact. Bits
// out of range must be zero.
TileVerdict tile_verdict(const uint64_t* words, int64_t words_per_row, int64_t num_queries,
                         int64_t num_keys);

// Throws c10::Error that names the first size that is not in 1 to 2^31 - 1, or when the shape has
// 2^63 pairs or more.
void check_mask_shape(const MaskShape& shape);

// Throws c10::Error unless the rule is defined for the batch, heads and tokens of the shape.
void check_rule_fits(const char* caller, const MaskMod& rule, const MaskShape& shape);

// Throws c10::Error that names the plan of a mask that carries one.
void check_no_plan(const char* caller, const BlockMask& mask);

// Index of a batch row and head; a broadcast batch or head dimension has index 0 for all.
inline int64_t tile_group(const MaskShape& shape, int64_t b, int64_t h) {
  return (shape.batch == 1 ? 0 : b) * shape.heads + (shape.heads == 1 ? 0 : h);
}

// Index of a row of tiles in BlockMaskData::row_offsets.
inline int64_t tile_row(const BlockMaskData& data, int64_t b, int64_t h, int64_t q_block) {
  return tile_group(data.shape, b, h) * data.num_q_blocks() + q_block;
}

inline c10::ArrayRef<BlockRun> runs_of_row(const BlockMaskData& data, int64_t row) {
  const int32_t begin = data.row_offsets[row];
  return {data.runs.data() + begin, static_cast<size_t>(data.row_offsets[row + 1] - begin)};
}

inline int64_t num_tile_rows(const BlockMaskData& data) {
  return static_cast<int64_t>(data.row_offsets.size()) - 1;
}

// Words of one bit tile.
inline int64_t words_per_tile(const BlockMaskData& data) {
  return data.shape.block.q * data.words_per_row();
}

inline const uint64_t* tile_words(const BlockMaskData& data, int64_t tile) {
  return data.tile_bits.data() + tile * words_per_tile(data);
}

// In-range tokens of a block; the last one may be cut short.
inline TokenRange block_tokens(int64_t block, int64_t block_size, int64_t length) {
  return {block * block_size, std::min((block + 1) * block_size, length)};
}

// Throws c10::Error unless there is a block, all are in range, distinct and (if `ascending`) in
// order, and a block that `length` cuts short comes last.
void check_blocks(const char* caller, const std::vector<int64_t>& blocks, int64_t block_size,
                  int64_t length, bool ascending);

// In-range tokens of these blocks.
int64_t num_tokens(const std::vector<int64_t>& blocks, int64_t block_size, int64_t length);

}  // namespace tessera
