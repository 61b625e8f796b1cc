// The builder of block masks: bands of the rule -> runs of tiles.
//
// Per batch row and head the rule gives its bands once, in order of their queries. A sweep over the
// rows of tiles keeps the bands that meet the row; each splits into at most three spans of tiles:
// partial, full, partial. Where spans overlap, full wins, and a tile that is partial in every span
// is evaluated. Most partial tiles look alike (every diagonal tile of a causal mask, every left
// edge of one document), so a tile is first looked up by its bands in tile coordinates, a few
// integers, and only new ones are written as bits.
#include <c10/util/Exception.h>

#include <limits>
#include <unordered_map>

#include "attention/block_mask.h"
#include "attention/block_mask_shared.h"
#include "attention/mask_node.h"

namespace tessera {

namespace {

// A band within one tile, in the tile's coordinates, with bounds that do not matter there clamped
// away.
struct TileBand {
  TokenRange queries;
  TokenRange keys;
  int64_t diag_begin;
  int64_t diag_end;
  bool operator==(const TileBand&) const = default;
};

// What determines the bits of a tile. num_queries and num_keys are its in-range sizes.
struct TileKey {
  int64_t num_queries = 0;
  int64_t num_keys = 0;
  std::vector<TileBand> bands;
  bool operator==(const TileKey&) const = default;
};

struct TileKeyHash {
  size_t operator()(const TileKey& key) const {
    size_t hash = hash_combine(key.num_queries, key.num_keys);
    for (const TileBand& band : key.bands) {
      hash = hash_combine(hash, (band.queries.begin << 32) ^ band.queries.end);
      hash = hash_combine(hash, (band.keys.begin << 32) ^ band.keys.end);
      hash = hash_combine(hash, (band.diag_begin << 32) ^ band.diag_end);
    }
    return hash;
  }
};

void set_bits(uint64_t* words, int64_t begin, int64_t end) {
  for (int64_t w = begin / 64; w * 64 < end; ++w) {
    const int64_t low = std::max<int64_t>(begin - w * 64, 0);
    const int64_t high = std::min<int64_t>(end - w * 64, 64);
    words[w] |= (~uint64_t{0} >> (64 - (high - low))) << low;
  }
}

// The bit tiles of a mask under construction: equal ones are stored once.
class TileStore {
 public:
  static constexpr int32_t kEmptyTile = -2;

  TileStore(BlockSize block, std::vector<uint64_t>& tile_bits)
      : block_(block),
        words_per_row_((block.kv + 63) / 64),
        scratch_(block.q * words_per_row_),
        tile_bits_(tile_bits) {}

  // Index of the tile's bits, BlockRun::kFullTiles when all in-range pairs are allowed, or
  // kEmptyTile.
  int32_t find_or_add(const TileKey& key) {
    const auto known = by_key_.find(key);
    if (known != by_key_.end()) return known->second;
    const int32_t tile = evaluate(key);
    by_key_.emplace(key, tile);
    return tile;
  }

 private:
  int32_t evaluate(const TileKey& key) {
    std::fill(scratch_.begin(), scratch_.end(), 0);
    for (const TileBand& band : key.bands) {
      for (int64_t q = band.queries.begin; q < band.queries.end; ++q) {
        const int64_t begin = std::max(band.keys.begin, q + band.diag_begin);
        const int64_t end = std::min(band.keys.end, q + band.diag_end);
        if (begin < end) set_bits(scratch_.data() + q * words_per_row_, begin, end);
      }
    }
    switch (tile_verdict(scratch_.data(), words_per_row_, key.num_queries, key.num_keys)) {
      case TileVerdict::kEmpty:
        return kEmptyTile;
      case TileVerdict::kFull:
        return BlockRun::kFullTiles;
      case TileVerdict::kMixed:
        break;
    }
    return find_or_add_bits();
  }

  int32_t find_or_add_bits() {
    const int64_t words_per_tile = static_cast<int64_t>(scratch_.size());
    const size_t hash = hash_words(scratch_);
    const auto [begin, end] = by_bits_.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
      const auto stored = tile_bits_.begin() + it->second * words_per_tile;
      if (std::equal(scratch_.begin(), scratch_.end(), stored)) return it->second;
    }
    const int64_t tile = static_cast<int64_t>(tile_bits_.size()) / words_per_tile;
    TORCH_CHECK(tile < std::numeric_limits<int32_t>::max(),
                "create_block_mask: got more than 2^31 different partial tiles");
    tile_bits_.insert(tile_bits_.end(), scratch_.begin(), scratch_.end());
    by_bits_.emplace(hash, static_cast<int32_t>(tile));
    return static_cast<int32_t>(tile);
  }

  // Four lanes, so that the multiplications overlap.
  static size_t hash_words(const std::vector<uint64_t>& words) {
    size_t lanes[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < words.size(); ++i) lanes[i % 4] = hash_combine(lanes[i % 4], words[i]);
    return hash_combine(hash_combine(lanes[0], lanes[1]), hash_combine(lanes[2], lanes[3]));
  }

  BlockSize block_;
  int64_t words_per_row_;
  std::vector<uint64_t> scratch_;
  std::vector<uint64_t>& tile_bits_;
  std::unordered_map<TileKey, int32_t, TileKeyHash> by_key_;
  std::unordered_multimap<size_t, int32_t> by_bits_;
};

// A range of tiles in one row of tiles, wholly or partly covered by one band.
struct Span {
  int32_t begin;
  int32_t end;
  bool full;
  const Band* band;
};

// Writes the rows of tiles of one (batch row, head) after another into the arrays of a mask.
class RunBuilder {
 public:
  explicit RunBuilder(const MaskShape& shape) : tiles_(shape.block, data_.tile_bits) {
    data_.shape = shape;
    data_.row_offsets.push_back(0);
  }

  void add(std::vector<Band> bands) {
    std::sort(bands.begin(), bands.end(),
              [](const Band& a, const Band& b) { return a.queries.begin < b.queries.begin; });
    std::vector<Band> active;
    size_t next = 0;
    for (int64_t q_block = 0; q_block < data_.num_q_blocks(); ++q_block) {
      queries_ = block_tokens(q_block, data_.shape.block.q, data_.shape.q_len);
      std::erase_if(active, [&](const Band& band) { return band.queries.end <= queries_.begin; });
      while (next < bands.size() && bands[next].queries.begin < queries_.end) {
        active.push_back(bands[next++]);
      }
      add_row_of_tiles(active);
    }
  }

  // Repeats the rows of an earlier group (batch row and head).
  void repeat(int64_t group) {
    const int64_t num_rows = data_.num_q_blocks();
    for (int64_t row = group * num_rows; row < (group + 1) * num_rows; ++row) {
      for (int32_t i = data_.row_offsets[row]; i < data_.row_offsets[row + 1]; ++i) {
        data_.runs.push_back(BlockRun(data_.runs[i]));
      }
      end_row();
    }
  }

  BlockMaskData finish() { return std::move(data_); }

 private:
  void add_row_of_tiles(const std::vector<Band>& active) {
    row_bands_.clear();
    for (const Band& band : active) {
      const Band clipped = intersect(band, {.queries = queries_, .keys = band.keys});
      if (!clipped.empty()) row_bands_.push_back(clipped);
    }
    spans_.clear();
    for (const Band& band : row_bands_) add_spans(band);
    std::sort(spans_.begin(), spans_.end(),
              [](const Span& a, const Span& b) { return a.begin < b.begin; });
    merge_spans();
    end_row();
  }

  void add_spans(const Band& band) {
    const int64_t size = data_.shape.block.kv;
    const int64_t kv_len = data_.shape.kv_len;
    const auto block_after = [&](int64_t key) {
      return static_cast<int32_t>((key + size - 1) / size);
    };
    const auto begin = static_cast<int32_t>(band.keys.begin / size);
    const int32_t end = block_after(band.keys.end);

    // Keys that every query of the row of tiles may see; edges only move right from query to query.
    const int64_t common_begin = band.first_key(queries_.end - 1);
    const int64_t common_end = band.end_key(queries_.begin);
    const int32_t full_begin = block_after(common_begin);
    const int32_t full_end = common_end == kv_len ? end : static_cast<int32_t>(common_end / size);
    if (band.queries != queries_ || full_begin >= full_end) {
      spans_.push_back({begin, end, false, &band});
      return;
    }
    if (begin < full_begin) spans_.push_back({begin, full_begin, false, &band});
    spans_.push_back({full_begin, full_end, true, &band});
    if (full_end < end) spans_.push_back({full_end, end, false, &band});
  }

  // Walks the stretches of tiles between which no span begins or ends.
  void merge_spans() {
    size_t next = 0;
    int32_t at = 0;
    open_.clear();
    while (next < spans_.size() || !open_.empty()) {
      if (open_.empty()) at = spans_[next].begin;
      while (next < spans_.size() && spans_[next].begin == at) open_.push_back(spans_[next++]);
      int32_t until =
          next < spans_.size() ? spans_[next].begin : std::numeric_limits<int32_t>::max();
      for (const Span& span : open_) until = std::min(until, span.end);
      add_stretch(at, until);
      at = until;
      std::erase_if(open_, [&](const Span& span) { return span.end <= at; });
    }
  }

  void add_stretch(int32_t begin, int32_t end) {
    if (std::any_of(open_.begin(), open_.end(), [](const Span& span) { return span.full; })) {
      add_full(begin, end);
      return;
    }
    for (int32_t kv_block = begin; kv_block < end; ++kv_block) {
      set_key(kv_block);
      const int32_t tile = tiles_.find_or_add(key_);
      if (tile == BlockRun::kFullTiles) {
        add_full(kv_block, kv_block + 1);
      } else if (tile != TileStore::kEmptyTile) {
        data_.runs.push_back({kv_block, kv_block + 1, tile});
      }
    }
  }

  void add_full(int32_t begin, int32_t end) {
    const bool has_previous = static_cast<int64_t>(data_.runs.size()) > data_.row_offsets.back();
    if (has_previous && data_.runs.back().full() && data_.runs.back().end == begin) {
      data_.runs.back().end = end;
    } else {
      data_.runs.push_back({begin, end});
    }
  }

  // The open bands in the coordinates of one tile. A diagonal a block or more away constrains
  // nothing or everything, wherever exactly it is; a key bound outside the tile likewise.
  void set_key(int32_t kv_block) {
    const BlockSize& block = data_.shape.block;
    const TokenRange keys = block_tokens(kv_block, block.kv, data_.shape.kv_len);
    key_.num_queries = queries_.size();
    key_.num_keys = keys.size();
    key_.bands.clear();
    for (const Span& span : open_) {
      const Band& band = *span.band;
      const auto key = [&](int64_t kv) {
        return std::clamp<int64_t>(kv - keys.begin, 0, keys.size());
      };
      const auto diagonal = [&](int64_t offset) {
        return std::clamp(offset + queries_.begin - keys.begin, -block.q, block.kv);
      };
      key_.bands.push_back(
          {.queries = {band.queries.begin - queries_.begin, band.queries.end - queries_.begin},
           .keys = {key(band.keys.begin), key(band.keys.end)},
           .diag_begin = diagonal(band.diag_begin),
           .diag_end = diagonal(band.diag_end)});
    }
  }

  void end_row() {
    TORCH_CHECK(data_.runs.size() <= std::numeric_limits<int32_t>::max(),
                "create_block_mask: got more than 2^31 runs; use larger blocks");
    data_.row_offsets.push_back(static_cast<int32_t>(data_.runs.size()));
  }

  BlockMaskData data_;
  TileStore tiles_;
  // Of the current row of tiles; members only to keep their memory.
  TokenRange queries_;
  std::vector<Band> row_bands_;
  std::vector<Span> spans_;
  std::vector<Span> open_;
  TileKey key_;
};

void check_fits(const MaskMod& rule, const MaskShape& shape) {
  const auto check_size = [&](const char* what, int64_t rule_size, int64_t shape_size) {
    TORCH_CHECK(rule_size == 1 || rule_size == shape_size, "create_block_mask(", rule.to_string(),
                "): ", what, ": got ", shape_size, ", expected ", rule_size,
                ", which the rule's tensors have");
  };
  check_size("batch", rule.batch_size(), shape.batch);
  check_size("heads", rule.num_heads(), shape.heads);
  const int64_t tokens = rule.num_tokens();
  TORCH_CHECK(tokens < 0 || (shape.q_len <= tokens && shape.kv_len <= tokens), "create_block_mask(",
              rule.to_string(), "): q_len and kv_len: got ", shape.q_len, " and ", shape.kv_len,
              ", expected at most ", tokens, ", the tokens of the rule's tensors");
}

}  // namespace

BlockMask create_block_mask(const MaskMod& rule, const MaskShape& shape) {
  check_mask_shape(shape);
  check_fits(rule, shape);
  RunBuilder builder(shape);
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t rule_b = rule.batch_size() == 1 ? 0 : b;
      const int64_t rule_h = rule.num_heads() == 1 ? 0 : h;
      if (rule_b != b || rule_h != h) {
        builder.repeat(rule_b * shape.heads + rule_h);
        continue;
      }
      std::vector<Band> bands;
      rule.node().bands(b, h, {.queries = {0, shape.q_len}, .keys = {0, shape.kv_len}}, bands);
      builder.add(std::move(bands));
    }
  }
  return BlockMask(builder.finish());
}

}  // namespace tessera
