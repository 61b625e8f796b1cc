// RunWriter: the arrays of a mask under construction, row of tiles after row of tiles, kept
// canonical. Internal to attention/.
//
//   RunWriter writer(shape);
//   for (int64_t row = 0; row < shape.batch * shape.heads * num_q_blocks; ++row) {
//     writer.add_full(0, 2);                                         // tiles 0 and 1 of the row
//     writer.add_tile(2, tiles.add_bands(bands, queries, keys));     // `tiles` is a TileStore
//     writer.end_row();
//   }
//   BlockMask mask = writer.finish(tiles.take_bits());
//
// The writer trusts its callers: the mask is made without the checks of BlockMask's constructor.
#pragma once

#include <c10/util/Exception.h>

#include <limits>
#include <utility>

#include "attention/block_mask/block_mask_shared.h"
#include "attention/block_mask/tile_store.h"

namespace tessera {

class RunWriter {
 public:
  explicit RunWriter(const MaskShape& shape) {
    data_.shape = shape;
    data_.row_offsets.reserve(shape.batch * shape.heads * data_.num_q_blocks() + 1);
    data_.row_offsets.push_back(0);
  }

  // Adds full tiles [begin, end), which must come after all tiles that the row has.
  void add_full(int32_t begin, int32_t end) {
    const bool has_previous = static_cast<int64_t>(data_.runs.size()) > data_.row_offsets.back();
    if (has_previous && data_.runs.back().full() && data_.runs.back().end == begin) {
      data_.runs.back().end = end;
    } else {
      data_.runs.push_back({begin, end});
    }
  }

  // Adds one tile, which must come after all tiles that the row has. `tile` is a result of
  // TileStore: an index, BlockRun::kFullTiles or TileStore::kEmptyTile.
  void add_tile(int32_t kv_block, int32_t tile) {
    if (tile == BlockRun::kFullTiles) {
      add_full(kv_block, kv_block + 1);
    } else if (tile != TileStore::kEmptyTile) {
      data_.runs.push_back({kv_block, kv_block + 1, tile});
    }
  }

  // Ends a row of tiles. Throws c10::Error when the mask has 2^31 runs or more.
  void end_row() {
    TORCH_CHECK(data_.runs.size() <= std::numeric_limits<int32_t>::max(),
                "BlockMask: got more than 2^31 runs; use larger blocks");
    data_.row_offsets.push_back(static_cast<int32_t>(data_.runs.size()));
  }

  // Adds a copy of the rows of an earlier group (batch row and head).
  void repeat(int64_t group) {
    const int64_t num_rows = data_.num_q_blocks();
    for (int64_t row = group * num_rows; row < (group + 1) * num_rows; ++row) {
      for (int32_t i = data_.row_offsets[row]; i < data_.row_offsets[row + 1]; ++i) {
        data_.runs.push_back(BlockRun(data_.runs[i]));
      }
      end_row();
    }
  }

  // Makes the mask, once all rows of all groups have ended.
  BlockMask finish(std::vector<uint64_t> tile_bits) {
    data_.tile_bits = std::move(tile_bits);
    return BlockMask::Shared::trusted(std::move(data_));
  }

 private:
  BlockMaskData data_;
};

}  // namespace tessera
