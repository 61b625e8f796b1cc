// TileStore: the bit tiles of a mask under construction, equal ones stored once.
// Internal to attention/.
//
// Tiles are laid out as in BlockMaskData::tile_bits. Adding throws c10::Error when there are more
// than 2^31 - 1 different partial tiles.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_bands.h"

namespace tessera {

class TileStore {
 public:
  static constexpr int32_t kEmptyTile = -2;  // no pair of the tile is allowed

  explicit TileStore(BlockSize block);

  // Makes room for this many tiles, so that growing does not copy them.
  void reserve(int64_t num_tiles);

  // Adds the tile of the union of bands, of which only the part inside `queries` x `keys` counts
  // (at most one block). Returns its index, BlockRun::kFullTiles when every pair of the rectangle
  // is allowed, or kEmptyTile. Tiles whose bands look alike from the tile's corner are written
  // once.
  int32_t add_bands(c10::ArrayRef<const Band*> bands, TokenRange queries, TokenRange keys);

  // Adds a tile from its bits: block.q rows of words, with zeros beyond num_queries and num_keys.
  // Returns as add_bands does.
  int32_t add_bits(const uint64_t* words, int64_t num_queries, int64_t num_keys);

  int64_t words_per_tile() const { return words_per_tile_; }
  std::vector<uint64_t> take_bits() { return std::move(bits_); }

 private:
  // An entry of the table of known keys: open addressing over a flat list of the keys' numbers.
  struct Slot {
    uint64_t hash = 0;
    uint32_t begin = 0;
    uint32_t size = 0;  // 0: free
    int32_t tile = 0;
  };

  void set_key(c10::ArrayRef<const Band*> bands, TokenRange queries, TokenRange keys);
  Slot& find_slot(uint64_t hash);
  void grow_table();
  template <int kWords>
  void write_band(const int32_t* number, uint64_t* words) const;
  void write_bands(int64_t num_bands, uint64_t* words) const;
  int32_t keep_last_tile(int64_t num_queries, int64_t num_keys);

  BlockSize block_;
  int64_t words_per_row_;
  int64_t words_per_tile_;
  std::vector<uint64_t> prefix_bits_;  // row n: the first n of block.kv bits set
  std::vector<uint64_t> bits_;
  std::vector<int32_t> key_;  // the key of the tile at hand
  std::vector<int32_t> keys_;
  std::vector<Slot> slots_;
  size_t num_keys_ = 0;
  std::unordered_multimap<size_t, int32_t> by_bits_;
};

}  // namespace tessera
