// Parts of block masks: batch rows, query blocks, key blocks, the upper left corner; and the
// transposed runs.
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <numeric>

#include "attention/block_mask/run_writer.h"

namespace tessera {

namespace {

// The tiles that a part takes over, in order of first use.
class TileCopies {
 public:
  explicit TileCopies(const BlockMaskData& source)
      : source_(source), new_tile_(source.num_tiles(), -1) {}

  // The index in the part of a tile of the source; full runs stay full.
  int32_t take(int32_t tile) {
    if (tile == BlockRun::kFullTiles) return tile;
    int32_t& index = new_tile_[tile];
    if (index < 0) {
      index = num_tiles_++;
      const uint64_t* words = tile_words(source_, tile);
      bits_.insert(bits_.end(), words, words + words_per_tile(source_));
    }
    return index;
  }

  std::vector<uint64_t> take_bits() { return std::move(bits_); }

 private:
  const BlockMaskData& source_;
  std::vector<int32_t> new_tile_;
  int32_t num_tiles_ = 0;
  std::vector<uint64_t> bits_;
};

void add_run(const BlockRun& run, TileCopies& tiles, RunWriter& writer) {
  if (run.full()) {
    writer.add_full(run.begin, run.end);
  } else {
    writer.add_tile(run.begin, tiles.take(run.tile));
  }
}

// Batch rows [begin, end) as a mask of their own, with the tiles that they use.
BlockMask batch_slice(const BlockMaskData& data, int64_t begin, int64_t end) {
  MaskShape shape = data.shape;
  shape.batch = end - begin;
  TileCopies tiles(data);
  RunWriter writer(shape);
  const int64_t rows_per_batch = shape.heads * data.num_q_blocks();
  for (int64_t row = begin * rows_per_batch; row < end * rows_per_batch; ++row) {
    for (const BlockRun& run : runs_of_row(data, row)) add_run(run, tiles, writer);
    writer.end_row();
  }
  return writer.finish(tiles.take_bits());
}

// Sets `cut` to the bits of a tile cut to its first rows and keys.
void cut_tile(const BlockMaskData& data, int32_t tile, int64_t num_queries, int64_t num_keys,
              std::vector<uint64_t>& cut) {
  const int64_t words = data.words_per_row();
  cut.assign(words_per_tile(data), 0);
  for (int64_t i = 0; i < num_queries * words; ++i) {
    const int64_t bits = num_keys - i % words * 64;
    const uint64_t in_range = bits >= 64 ? ~uint64_t{0} : bits <= 0 ? 0 : (uint64_t{1} << bits) - 1;
    cut[i] = tile_words(data, tile)[i] & in_range;
  }
}

TransposedRuns transpose(const BlockMaskData& data) {
  const int64_t groups = data.shape.batch * data.shape.heads;
  const int64_t num_q_blocks = data.num_q_blocks();
  const int64_t num_kv_blocks = data.num_kv_blocks();
  // Runs of each column in order of rows; full tiles join the full run above them.
  std::vector<std::vector<BlockRun>> columns(num_kv_blocks);
  TransposedRuns out;
  out.offsets.reserve(groups * num_kv_blocks + 1);
  out.offsets.push_back(0);
  for (int64_t group = 0; group < groups; ++group) {
    for (int32_t q_block = 0; q_block < num_q_blocks; ++q_block) {
      for (const BlockRun& run : runs_of_row(data, group * num_q_blocks + q_block)) {
        for (int32_t kv_block = run.begin; kv_block < run.end; ++kv_block) {
          std::vector<BlockRun>& column = columns[kv_block];
          if (run.full() && !column.empty() && column.back().full() &&
              column.back().end == q_block) {
            ++column.back().end;
          } else {
            column.push_back({q_block, q_block + 1, run.tile});
          }
        }
      }
    }
    for (std::vector<BlockRun>& column : columns) {
      out.runs.insert(out.runs.end(), column.begin(), column.end());
      out.offsets.push_back(static_cast<int32_t>(out.runs.size()));
      column.clear();
    }
  }
  return out;
}

}  // namespace

void check_blocks(const char* caller, const std::vector<int64_t>& blocks, int64_t block_size,
                  int64_t length, bool ascending) {
  const int64_t num_blocks = (length + block_size - 1) / block_size;
  const bool ragged = length % block_size != 0;
  TORCH_CHECK(!blocks.empty(), caller, ": got no block, expected at least one");
  std::vector<bool> seen(num_blocks);
  for (size_t i = 0; i < blocks.size(); ++i) {
    TORCH_CHECK(blocks[i] >= 0 && blocks[i] < num_blocks, caller, ": got block ", blocks[i],
                ", expected 0 to ", num_blocks - 1);
    TORCH_CHECK(!seen[blocks[i]], caller, ": got block ", blocks[i], " twice");
    seen[blocks[i]] = true;
    TORCH_CHECK(!ascending || i == 0 || blocks[i] > blocks[i - 1], caller, ": got block ",
                blocks[i], " after ", blocks[i - 1], ", expected ascending blocks");
    TORCH_CHECK(!ragged || blocks[i] != num_blocks - 1 || i + 1 == blocks.size(), caller,
                ": got block ", blocks[i], ", which the length cuts short, before others; ",
                "expected it last");
  }
}

int64_t num_tokens(const std::vector<int64_t>& blocks, int64_t block_size, int64_t length) {
  int64_t tokens = 0;
  for (const int64_t block : blocks) tokens += block_tokens(block, block_size, length).size();
  return tokens;
}

c10::ArrayRef<BlockRun> BlockMask::q_runs(int64_t b, int64_t h, int64_t kv_block) const {
  const auto in_range = [](int64_t index, int64_t size) { return index >= 0 && index < size; };
  const int64_t num_kv_blocks = data().num_kv_blocks();
  TORCH_CHECK((shape().batch == 1 || in_range(b, shape().batch)) &&
                  (shape().heads == 1 || in_range(h, shape().heads)) &&
                  in_range(kv_block, num_kv_blocks),
              "BlockMask: got batch row ", b, ", head ", h, ", key block ", kv_block,
              ", expected less than ", shape().batch, ", ", shape().heads, ", ", num_kv_blocks);
  const std::lock_guard lock(shared_->mutex);
  if (!shared_->transposed) shared_->transposed = transpose(data());
  const TransposedRuns& columns = *shared_->transposed;
  const int64_t column = tile_group(shape(), b, h) * num_kv_blocks + kv_block;
  const int32_t begin = columns.offsets[column];
  return {columns.runs.data() + begin, static_cast<size_t>(columns.offsets[column + 1] - begin)};
}

std::vector<BlockMask> BlockMask::split(const std::vector<int64_t>& batch_sizes) const {
  check_no_plan("BlockMask::split", *this);
  for (const int64_t size : batch_sizes) {
    TORCH_CHECK(size >= 1, "BlockMask::split: batch_sizes: got ", size, ", expected at least 1");
  }
  if (shape().batch == 1) return std::vector<BlockMask>(batch_sizes.size(), *this);
  const int64_t sum = std::accumulate(batch_sizes.begin(), batch_sizes.end(), int64_t{0});
  TORCH_CHECK(sum == shape().batch, "BlockMask::split: batch_sizes: got a sum of ", sum,
              ", expected the mask's batch, ", shape().batch);
  std::vector<BlockMask> parts;
  int64_t begin = 0;
  for (const int64_t size : batch_sizes) {
    parts.push_back(batch_slice(data(), begin, begin + size));
    begin += size;
  }
  return parts;
}

BlockMask BlockMask::batch_row(int64_t b) const {
  check_no_plan("BlockMask::batch_row", *this);
  if (shape().batch == 1) return *this;
  TORCH_CHECK(b >= 0 && b < shape().batch, "BlockMask::batch_row: got ", b, ", expected 0 to ",
              shape().batch - 1);
  return batch_slice(data(), b, b + 1);
}

BlockMask BlockMask::select_q_blocks(const std::vector<int64_t>& q_blocks) const {
  check_no_plan("BlockMask::select_q_blocks", *this);
  const int64_t num_rows = data().num_q_blocks();
  check_blocks("BlockMask::select_q_blocks", q_blocks, shape().block.q, shape().q_len,
               /*ascending=*/false);
  MaskShape part = shape();
  part.q_len = num_tokens(q_blocks, shape().block.q, shape().q_len);
  TileCopies tiles(data());
  RunWriter writer(part);
  for (int64_t group = 0; group < shape().batch * shape().heads; ++group) {
    for (const int64_t q_block : q_blocks) {
      for (const BlockRun& run : runs_of_row(data(), group * num_rows + q_block)) {
        add_run(run, tiles, writer);
      }
      writer.end_row();
    }
  }
  return writer.finish(tiles.take_bits());
}

BlockMask BlockMask::select_kv_blocks(const std::vector<int64_t>& kv_blocks) const {
  check_no_plan("BlockMask::select_kv_blocks", *this);
  check_blocks("BlockMask::select_kv_blocks", kv_blocks, shape().block.kv, shape().kv_len,
               /*ascending=*/true);
  MaskShape part = shape();
  part.kv_len = num_tokens(kv_blocks, shape().block.kv, shape().kv_len);
  // A range of old blocks is a range of new ones.
  const auto new_block = [&](int32_t old_block) {
    const auto at = std::lower_bound(kv_blocks.begin(), kv_blocks.end(), old_block);
    return static_cast<int32_t>(at - kv_blocks.begin());
  };
  TileCopies tiles(data());
  RunWriter writer(part);
  for (int64_t row = 0; row < num_tile_rows(data()); ++row) {
    for (BlockRun run : runs_of_row(data(), row)) {
      run.begin = new_block(run.begin);
      run.end = new_block(run.end);
      if (run.begin < run.end) add_run(run, tiles, writer);
    }
    writer.end_row();
  }
  return writer.finish(tiles.take_bits());
}

BlockMask BlockMask::crop(int64_t q_len, int64_t kv_len) const {
  check_no_plan("BlockMask::crop", *this);
  TORCH_CHECK(q_len >= 1 && q_len <= shape().q_len && kv_len >= 1 && kv_len <= shape().kv_len,
              "BlockMask::crop: got ", q_len, " x ", kv_len, ", expected 1 to ", shape().q_len,
              " queries and 1 to ", shape().kv_len, " keys");
  MaskShape part = shape();
  part.q_len = q_len;
  part.kv_len = kv_len;
  const BlockSize& block = shape().block;
  TileStore tiles(block);
  RunWriter writer(part);
  const int64_t num_q_blocks = (q_len + block.q - 1) / block.q;
  const auto num_kv_blocks = static_cast<int32_t>((kv_len + block.kv - 1) / block.kv);
  std::vector<uint64_t> cut;
  for (int64_t group = 0; group < shape().batch * shape().heads; ++group) {
    for (int64_t q_block = 0; q_block < num_q_blocks; ++q_block) {
      const int64_t num_queries = block_tokens(q_block, block.q, q_len).size();
      for (const BlockRun& run : runs_of_row(data(), group * data().num_q_blocks() + q_block)) {
        if (run.begin >= num_kv_blocks) break;
        if (run.full()) {
          writer.add_full(run.begin, std::min(run.end, num_kv_blocks));
          continue;
        }
        const int64_t num_keys = block_tokens(run.begin, block.kv, kv_len).size();
        cut_tile(data(), run.tile, num_queries, num_keys, cut);
        writer.add_tile(run.begin, tiles.add_bits(cut.data(), num_queries, num_keys));
      }
      writer.end_row();
    }
  }
  return writer.finish(tiles.take_bits());
}

}  // namespace tessera
