// The builder of block masks: bands of the rule -> stretches of tiles -> runs.
//
// Per batch row and head the rule gives its bands once; TileSweep cuts them into stretches of full
// tiles and tiles with an edge in them, and TileStore writes the latter as bits, most of them only
// once: every diagonal tile of a causal mask looks alike. A rule that holds a mask_fn gives bounds
// instead: what lies between them is evaluated pair by pair, in parallel.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <numeric>

#include "attention/block_mask/fill_tile.h"
#include "attention/block_mask/run_writer.h"
#include "attention/block_mask/tile_sweep.h"
#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

std::vector<Band> bands_of(const MaskMod& rule, int64_t b, int64_t h, const MaskShape& shape,
                           MaskBound bound) {
  std::vector<Band> bands;
  const Band all{.queries = {0, shape.q_len}, .keys = {0, shape.kv_len}};
  rule.node().bands(b, h, all, bound, bands);
  return bands;
}

// Rows of tiles that are asked for, ascending.
using QBlocks = std::vector<int64_t>;

// Rows of a rule that is known by its bands.
void add_interval_rows(const MaskMod& rule, int64_t b, int64_t h, const MaskShape& shape,
                       const QBlocks& q_blocks, TileStore& tiles, RunWriter& writer) {
  std::vector<Band> bands = bands_of(rule, b, h, shape, MaskBound::kCertain);
  const auto num_rows = static_cast<int64_t>(q_blocks.size());
  // A band's corners and edges make about this many different tiles; only memory that is written
  // to counts.
  constexpr int64_t kTilesPerBand = 4;
  tiles.reserve(
      std::min<int64_t>(kTilesPerBand * static_cast<int64_t>(bands.size()), 4 * num_rows));
  TileSweep sweep(shape, std::move(bands));
  for (const int64_t q_block : q_blocks) {
    for (const TileStretch& stretch : sweep.row(q_block)) {
      if (stretch.full) {
        writer.add_full(stretch.begin, stretch.end);
        continue;
      }
      for (int32_t kv_block = stretch.begin; kv_block < stretch.end; ++kv_block) {
        const TokenRange keys = block_tokens(kv_block, shape.block.kv, shape.kv_len);
        writer.add_tile(kv_block, tiles.add_bands(stretch.bands, sweep.queries(), keys));
      }
    }
    writer.end_row();
  }
}

// Tiles of an opaque rule that wait for evaluation.
struct OpenTile {
  int64_t q_block;
  int32_t kv_block;
  bool full;  // known already: no evaluation needed
};

// The tiles of one row that the bounds do not leave empty.
void append_open_tiles(int64_t q_block, const std::vector<TileStretch>& possible,
                       const std::vector<TileStretch>& certain, std::vector<OpenTile>& out) {
  size_t next = 0;
  for (const TileStretch& stretch : possible) {
    for (int32_t kv_block = stretch.begin; kv_block < stretch.end; ++kv_block) {
      while (next < certain.size() && certain[next].end <= kv_block) ++next;
      const bool is_full =
          next < certain.size() && certain[next].full && certain[next].begin <= kv_block;
      out.push_back({q_block, kv_block, is_full});
    }
  }
}

// Rows of a rule with a mask_fn in it, some thousands of tiles at a time.
class OpaqueRows {
 public:
  OpaqueRows(const MaskMod& rule, int64_t b, int64_t h, const MaskShape& shape,
             const QBlocks& q_blocks, TileStore& tiles, RunWriter& writer)
      : rule_(rule),
        b_(b),
        h_(h),
        shape_(shape),
        q_blocks_(q_blocks),
        tiles_(tiles),
        writer_(writer) {}

  void add() {
    TileSweep possible(shape_, bands_of(rule_, b_, h_, shape_, MaskBound::kPossible));
    TileSweep certain(shape_, bands_of(rule_, b_, h_, shape_, MaskBound::kCertain));
    const int64_t tiles_at_a_time = std::max<int64_t>(kWordsAtATime / tiles_.words_per_tile(), 1);
    for (size_t row = 0; row < q_blocks_.size(); ++row) {
      const int64_t q_block = q_blocks_[row];
      append_open_tiles(q_block, possible.row(q_block), certain.row(q_block), open_);
      const bool enough = static_cast<int64_t>(open_.size()) >= tiles_at_a_time;
      if (enough || row + 1 == q_blocks_.size()) flush(row + 1);
    }
  }

 private:
  static constexpr int64_t kWordsAtATime = int64_t{1} << 20;  // 8 MiB of bits

  void flush(size_t end_row) {
    const auto num_open = static_cast<int64_t>(open_.size());
    bits_.resize(num_open * tiles_.words_per_tile());
    // Waking a thread costs as much as some tens of thousands of pairs.
    constexpr int64_t kPairsPerThread = int64_t{1} << 16;
    const int64_t grain =
        std::max<int64_t>(kPairsPerThread / (shape_.block.q * shape_.block.kv), 1);
    at::parallel_for(0, num_open, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) evaluate(open_[i], tile_bits(i));
    });
    int64_t i = 0;
    for (; written_rows_ < end_row; ++written_rows_) {
      const int64_t q_block = q_blocks_[written_rows_];
      for (; i < num_open && open_[i].q_block == q_block; ++i) write(open_[i], tile_bits(i));
      writer_.end_row();
    }
    open_.clear();
  }

  uint64_t* tile_bits(int64_t i) { return bits_.data() + i * tiles_.words_per_tile(); }

  TokenRange queries(const OpenTile& tile) const {
    return block_tokens(tile.q_block, shape_.block.q, shape_.q_len);
  }
  TokenRange keys(const OpenTile& tile) const {
    return block_tokens(tile.kv_block, shape_.block.kv, shape_.kv_len);
  }

  void evaluate(const OpenTile& tile, uint64_t* words) const {
    if (!tile.full) fill_tile(rule_, b_, h_, queries(tile), keys(tile), shape_.block, words);
  }

  void write(const OpenTile& tile, const uint64_t* words) {
    writer_.add_tile(tile.kv_block,
                     tile.full ? BlockRun::kFullTiles
                               : tiles_.add_bits(words, queries(tile).size(), keys(tile).size()));
  }

  const MaskMod& rule_;
  int64_t b_;
  int64_t h_;
  const MaskShape& shape_;
  const QBlocks& q_blocks_;
  TileStore& tiles_;
  RunWriter& writer_;
  std::vector<OpenTile> open_;
  std::vector<uint64_t> bits_;
  size_t written_rows_ = 0;
};

}  // namespace

void check_rule_fits(const char* caller, const MaskMod& rule, const MaskShape& shape) {
  const auto check_size = [&](const char* what, int64_t rule_size, int64_t shape_size) {
    TORCH_CHECK(rule_size == 1 || rule_size == shape_size, caller, "(", rule.to_string(),
                "): ", what, ": got ", shape_size, ", expected ", rule_size,
                ", which the rule's tensors have");
  };
  check_size("batch", rule.batch_size(), shape.batch);
  check_size("heads", rule.num_heads(), shape.heads);
  const auto check_length = [&](const char* what, int64_t length, TokenRange covered) {
    TORCH_CHECK(contains(covered, {0, length}), caller, "(", rule.to_string(), "): ", what,
                ": got ", length, ", expected tokens within ", covered.begin, " to ", covered.end,
                ", which the rule's tensors cover");
  };
  check_length("q_len", shape.q_len, rule.covered_queries());
  check_length("kv_len", shape.kv_len, rule.covered_keys());
}

namespace {

// Rows q_blocks of the mask of `shape`; `part` is the shape of what is built.
BlockMask build_rows(const MaskMod& rule, const MaskShape& shape, const QBlocks& q_blocks,
                     const MaskShape& part) {
  const bool opaque = rule.node().opaque();  // asked for every batch row and head
  TileStore tiles(shape.block);
  RunWriter writer(part);
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t rule_b = !opaque && rule.batch_size() == 1 ? 0 : b;
      const int64_t rule_h = !opaque && rule.num_heads() == 1 ? 0 : h;
      if (rule_b != b || rule_h != h) {
        writer.repeat(rule_b * shape.heads + rule_h);
      } else if (opaque) {
        OpaqueRows(rule, b, h, shape, q_blocks, tiles, writer).add();
      } else {
        add_interval_rows(rule, b, h, shape, q_blocks, tiles, writer);
      }
    }
  }
  return writer.finish(tiles.take_bits());
}

}  // namespace

BlockMask create_block_mask(const MaskMod& rule, const MaskShape& shape) {
  check_mask_shape(shape);
  check_rule_fits("create_block_mask", rule, shape);
  QBlocks all((shape.q_len + shape.block.q - 1) / shape.block.q);
  std::iota(all.begin(), all.end(), 0);
  return build_rows(rule, shape, all, shape);
}

BlockMask create_block_mask_rows(const MaskMod& rule, const MaskShape& shape,
                                 const std::vector<int64_t>& q_blocks) {
  check_mask_shape(shape);
  check_rule_fits("create_block_mask_rows", rule, shape);
  check_blocks("create_block_mask_rows: q_blocks", q_blocks, shape.block.q, shape.q_len,
               /*ascending=*/true);
  MaskShape part = shape;
  part.q_len = num_tokens(q_blocks, shape.block.q, shape.q_len);
  return build_rows(rule, shape, q_blocks, part);
}

}  // namespace tessera
