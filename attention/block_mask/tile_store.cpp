#include "attention/block_mask/tile_store.h"

#include <c10/util/Exception.h>

#include <limits>

#include "attention/block_mask/block_mask_shared.h"
#include "attention/block_mask/fill_tile.h"
#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

// A key is a list of numbers: the two sizes of the rectangle, then six numbers per band.
constexpr size_t kSizes = 2;
constexpr size_t kNumbersPerBand = 6;

// Hashes two numbers at a time; a key always has an even count of numbers.
uint64_t hash_key(const std::vector<int32_t>& key) {
  uint64_t hash = 1;
  for (size_t i = 0; i < key.size(); i += 2) {
    const uint64_t pair =
        uint64_t{static_cast<uint32_t>(key[i])} << 32 | static_cast<uint32_t>(key[i + 1]);
    hash = (hash ^ pair) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  }
  return hash;
}

// Hashes in four lanes, so that the multiplications overlap.
size_t hash_words(const uint64_t* words, int64_t count) {
  size_t lanes[4] = {1, 2, 3, 4};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      lanes[lane] = (lanes[lane] ^ words[i + lane]) * 0x9e3779b97f4a7c15ULL;
      lanes[lane] ^= lanes[lane] >> 32;
    }
  }
  for (; i < count; ++i) lanes[0] = hash_combine(lanes[0], words[i]);
  return hash_combine(hash_combine(lanes[0], lanes[1]), hash_combine(lanes[2], lanes[3]));
}

}  // namespace

TileStore::TileStore(BlockSize block)
    : block_(block),
      words_per_row_(num_words(block.kv)),
      words_per_tile_(block.q * words_per_row_),
      slots_(64) {
  // The table pays for itself on blocks of usual sizes; huge ones would make it quadratic.
  constexpr int64_t kLargestTable = 1024;
  if (block.kv > kLargestTable) return;
  prefix_bits_.resize((block.kv + 1) * words_per_row_);
  for (int64_t n = 1; n <= block.kv; ++n) set_bits(&prefix_bits_[n * words_per_row_], 0, n);
}

void TileStore::reserve(int64_t num_tiles) { bits_.reserve(num_tiles * words_per_tile_); }

int32_t TileStore::add_bands(c10::ArrayRef<const Band*> bands, TokenRange queries,
                             TokenRange keys) {
  set_key(bands, queries, keys);
  const uint64_t hash = hash_key(key_);
  Slot* slot = &find_slot(hash);
  if (slot->size != 0) return slot->tile;

  bits_.resize(bits_.size() + words_per_tile_);
  write_bands(static_cast<int64_t>(bands.size()), &bits_[bits_.size() - words_per_tile_]);
  *slot = {.hash = hash,
           .begin = static_cast<uint32_t>(keys_.size()),
           .size = static_cast<uint32_t>(key_.size()),
           .tile = keep_last_tile(queries.size(), keys.size())};
  const int32_t tile = slot->tile;
  keys_.insert(keys_.end(), key_.begin(), key_.end());
  if (2 * ++num_keys_ > slots_.size()) grow_table();
  return tile;
}

int32_t TileStore::add_bits(const uint64_t* words, int64_t num_queries, int64_t num_keys) {
  bits_.insert(bits_.end(), words, words + words_per_tile_);
  return keep_last_tile(num_queries, num_keys);
}

// Sets key_ to the bands in the coordinates of the tile. A diagonal a block or more away constrains
// nothing or everything, wherever exactly it is, so it is clamped; so is a bound outside the tile.
void TileStore::set_key(c10::ArrayRef<const Band*> bands, TokenRange queries, TokenRange keys) {
  key_.resize(kSizes + kNumbersPerBand * bands.size());
  int32_t* number = key_.data();
  *number++ = static_cast<int32_t>(queries.size());
  *number++ = static_cast<int32_t>(keys.size());
  const auto within = [](int64_t token, TokenRange range) {
    return static_cast<int32_t>(std::clamp(token, range.begin, range.end) - range.begin);
  };
  const auto diagonal = [&](int64_t offset) {
    const int64_t in_tile = offset + queries.begin - keys.begin;
    return static_cast<int32_t>(std::clamp(in_tile, -block_.q, block_.kv));
  };
  for (const Band* band : bands) {
    *number++ = within(band->queries.begin, queries);
    *number++ = within(band->queries.end, queries);
    *number++ = within(band->keys.begin, keys);
    *number++ = within(band->keys.end, keys);
    *number++ = diagonal(band->diag_begin);
    *number++ = diagonal(band->diag_end);
  }
}

// The slot of key_, or the free one where it belongs.
TileStore::Slot& TileStore::find_slot(uint64_t hash) {
  for (size_t i = hash;; ++i) {
    Slot& slot = slots_[i & (slots_.size() - 1)];
    if (slot.size == 0) return slot;
    if (slot.hash == hash && slot.size == key_.size() &&
        std::equal(key_.begin(), key_.end(), keys_.begin() + slot.begin)) {
      return slot;
    }
  }
}

void TileStore::grow_table() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.size == 0) continue;
    size_t i = slot.hash;
    while (slots_[i & (slots_.size() - 1)].size != 0) ++i;
    slots_[i & (slots_.size() - 1)] = slot;
  }
}

// kWords: the words of a row of a tile when known at compile time (2 is the default block), else 0.
template <int kWords>
void TileStore::write_band(const int32_t* number, uint64_t* words) const {
  const int64_t words_per_row = kWords != 0 ? kWords : words_per_row_;
  for (int64_t q = number[0]; q < number[1]; ++q) {
    const int64_t begin = std::max<int64_t>(number[2], q + number[4]);
    const int64_t end = std::min<int64_t>(number[3], q + number[5]);
    if (begin >= end) continue;
    uint64_t* row = words + q * words_per_row;
    if (prefix_bits_.empty()) {
      set_bits(row, begin, end);
      continue;
    }
    const uint64_t* until = &prefix_bits_[end * words_per_row];
    const uint64_t* before = &prefix_bits_[begin * words_per_row];
    for (int64_t w = 0; w < words_per_row; ++w) row[w] |= until[w] & ~before[w];
  }
}

void TileStore::write_bands(int64_t num_bands, uint64_t* words) const {
  const int32_t* number = key_.data() + kSizes;
  for (int64_t i = 0; i < num_bands; ++i, number += kNumbersPerBand) {
    if (words_per_row_ == 2) {
      write_band<2>(number, words);
    } else {
      write_band<0>(number, words);
    }
  }
}

// Judges the tile at the end of bits_, and drops it unless it is partial and new.
int32_t TileStore::keep_last_tile(int64_t num_queries, int64_t num_keys) {
  const int64_t first_word = static_cast<int64_t>(bits_.size()) - words_per_tile_;
  const uint64_t* words = bits_.data() + first_word;
  const auto drop = [&](int32_t result) {
    bits_.resize(first_word);
    return result;
  };
  switch (tile_verdict(words, words_per_row_, num_queries, num_keys)) {
    case TileVerdict::kEmpty:
      return drop(kEmptyTile);
    case TileVerdict::kFull:
      return drop(BlockRun::kFullTiles);
    case TileVerdict::kMixed:
      break;
  }
  const size_t hash = hash_words(words, words_per_tile_);
  const auto [begin, end] = by_bits_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const uint64_t* known = bits_.data() + it->second * words_per_tile_;
    if (std::equal(words, words + words_per_tile_, known)) return drop(it->second);
  }
  const int64_t tile = first_word / words_per_tile_;
  TORCH_CHECK(tile < std::numeric_limits<int32_t>::max(),
              "create_block_mask: got more than 2^31 different partial tiles");
  by_bits_.emplace(hash, static_cast<int32_t>(tile));
  return static_cast<int32_t>(tile);
}

}  // namespace tessera
