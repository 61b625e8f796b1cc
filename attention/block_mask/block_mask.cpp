#include "attention/block_mask/block_mask.h"

#include <c10/util/Exception.h>

#include <bit>
#include <cstring>
#include <limits>
#include <typeinfo>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

namespace {

int64_t num_blocks(int64_t length, int64_t block_size) {
  return (length + block_size - 1) / block_size;
}

bool bit(const uint64_t* words, int64_t index) { return words[index / 64] >> (index % 64) & 1; }

// Bits [0, count) of the word at `word_index` in a row.
uint64_t leading_bits(int64_t count, int64_t word_index) {
  const int64_t bits = count - word_index * 64;
  if (bits >= 64) return ~uint64_t{0};
  return bits <= 0 ? 0 : (uint64_t{1} << bits) - 1;
}

// Checks that the bits of rows and keys that do not exist are zero.
void check_padding(const BlockMaskData& data, int64_t row, const BlockRun& run, int64_t num_queries,
                   int64_t num_keys) {
  const uint64_t* words = tile_words(data, run.tile);
  for (int64_t q = 0; q < data.shape.block.q; ++q) {
    for (int64_t w = 0; w < data.words_per_row(); ++w, ++words) {
      const uint64_t in_range = q < num_queries ? leading_bits(num_keys, w) : 0;
      TORCH_CHECK((*words & ~in_range) == 0, "BlockMask: row of tiles ", row, ", tile ", run.tile,
                  ": got a set bit in row ", q, " beyond ", num_queries, " queries or ", num_keys,
                  " keys, expected zeros there");
    }
  }
}

// Checks the invariants of the tile of one partial run.
void check_tile(const BlockMaskData& data, int64_t row, const BlockRun& run) {
  const MaskShape& shape = data.shape;
  const int64_t num_queries =
      block_tokens(row % data.num_q_blocks(), shape.block.q, shape.q_len).size();
  const int64_t num_keys = block_tokens(run.begin, shape.block.kv, shape.kv_len).size();
  if (num_queries < shape.block.q || num_keys < shape.block.kv || num_keys % 64 != 0) {
    check_padding(data, row, run, num_queries, num_keys);
  }
  const TileVerdict verdict =
      tile_verdict(tile_words(data, run.tile), data.words_per_row(), num_queries, num_keys);
  TORCH_CHECK(verdict == TileVerdict::kMixed, "BlockMask: row of tiles ", row, ", tile ", run.tile,
              ": got a tile ",
              verdict == TileVerdict::kFull ? "with every bit set, expected a full run"
                                            : "without a bit, expected no run");
}

void check_row(const BlockMaskData& data, int64_t row) {
  const int64_t num_kv_blocks = data.num_kv_blocks();
  BlockRun previous{-1, -1, 0};
  for (const BlockRun& run : runs_of_row(data, row)) {
    TORCH_CHECK(run.begin >= 0 && run.begin < run.end && run.end <= num_kv_blocks,
                "BlockMask: row of tiles ", row, ": got a run of blocks ", run.begin, " to ",
                run.end, ", expected a range within 0 to ", num_kv_blocks);
    TORCH_CHECK(run.begin >= previous.end, "BlockMask: row of tiles ", row,
                ": got a run that begins at block ", run.begin, " after one that ends at ",
                previous.end, ", expected ascending runs that do not overlap");
    if (run.full()) {
      TORCH_CHECK(!previous.full() || run.begin > previous.end, "BlockMask: row of tiles ", row,
                  ": got two full runs that meet at block ", run.begin, ", expected one");
    } else {
      TORCH_CHECK(run.end == run.begin + 1 && run.tile < data.num_tiles(),
                  "BlockMask: row of tiles ", row, ": got a partial run of blocks ", run.begin,
                  " to ", run.end, " with tile ", run.tile,
                  ", expected one block and a tile below ", data.num_tiles());
      check_tile(data, row, run);
    }
    previous = run;
  }
}

void check_data(const BlockMaskData& data) {
  check_mask_shape(data.shape);
  const MaskShape& shape = data.shape;
  const int64_t num_rows = shape.batch * shape.heads * data.num_q_blocks();
  TORCH_CHECK(static_cast<int64_t>(data.row_offsets.size()) == num_rows + 1,
              "BlockMask: row_offsets: got ", data.row_offsets.size(),
              " entries, expected batch x heads x query blocks + 1 (", shape.batch, " x ",
              shape.heads, " x ", data.num_q_blocks(), " + 1)");
  TORCH_CHECK(data.row_offsets.front() == 0 &&
                  data.row_offsets.back() == static_cast<int64_t>(data.runs.size()),
              "BlockMask: row_offsets: got first ", data.row_offsets.front(), " and last ",
              data.row_offsets.back(), ", expected 0 and the number of runs, ", data.runs.size());
  TORCH_CHECK(data.tile_bits.size() % words_per_tile(data) == 0, "BlockMask: tile_bits: got ",
              data.tile_bits.size(), " words, expected a multiple of ", words_per_tile(data));
  for (int64_t row = 0; row < num_rows; ++row) {
    TORCH_CHECK(data.row_offsets[row] <= data.row_offsets[row + 1], "BlockMask: row_offsets: got ",
                data.row_offsets[row], " before ", data.row_offsets[row + 1], " at row ", row,
                ", expected an ascending list");
  }
  for (int64_t row = 0; row < num_rows; ++row) check_row(data, row);
}

bool equal_rows(const BlockMaskData& a, int64_t row_a, const BlockMaskData& b, int64_t row_b) {
  const size_t tile_bytes = words_per_tile(a) * sizeof(uint64_t);
  const auto same = [&](const BlockRun& x, const BlockRun& y) {
    if (x.begin != y.begin || x.end != y.end || x.full() != y.full()) return false;
    return x.full() || std::memcmp(tile_words(a, x.tile), tile_words(b, y.tile), tile_bytes) == 0;
  };
  const c10::ArrayRef<BlockRun> runs_a = runs_of_row(a, row_a);
  const c10::ArrayRef<BlockRun> runs_b = runs_of_row(b, row_b);
  return std::equal(runs_a.begin(), runs_a.end(), runs_b.begin(), runs_b.end(), same);
}

// In-range pairs of blocks [begin, end) in a row of tiles.
int64_t area(const BlockMaskData& data, int64_t row, int64_t begin, int64_t end) {
  const MaskShape& shape = data.shape;
  const TokenRange queries = block_tokens(row % data.num_q_blocks(), shape.block.q, shape.q_len);
  return queries.size() * (std::min(end * shape.block.kv, shape.kv_len) - begin * shape.block.kv);
}

std::vector<int64_t> pairs_per_tile(const BlockMaskData& data) {
  const int64_t words = words_per_tile(data);
  std::vector<int64_t> pairs(data.num_tiles(), 0);
  for (int64_t tile = 0; tile < data.num_tiles(); ++tile) {
    const uint64_t* bits = tile_words(data, tile);
    for (int64_t w = 0; w < words; ++w) pairs[tile] += std::popcount(bits[w]);
  }
  return pairs;
}

bool has_causal_rows(const BlockMaskData& data) {
  const MaskShape& shape = data.shape;
  if (shape.q_len != shape.kv_len) return false;
  const BlockMask reference = create_block_mask(
      causal(), {.q_len = shape.q_len, .kv_len = shape.kv_len, .block = shape.block});
  const int64_t num_rows = static_cast<int64_t>(data.row_offsets.size()) - 1;
  for (int64_t row = 0; row < num_rows; ++row) {
    if (!equal_rows(data, row, reference.data(), row % data.num_q_blocks())) return false;
  }
  return true;
}

bool equal_plans(const MaskPlan* a, const MaskPlan* b) {
  if (a == b) return true;
  return a != nullptr && b != nullptr && typeid(*a) == typeid(*b) && a->equals(*b);
}

}  // namespace

void check_no_plan(const char* caller, const BlockMask& mask) {
  TORCH_CHECK(mask.plan() == nullptr, caller, ": got a mask with a plan (",
              mask.plan()->to_string(), "), expected one without: take parts before sharding");
}

TileVerdict tile_verdict(const uint64_t* words, int64_t words_per_row, int64_t num_queries,
                         int64_t num_keys) {
  bool any = false;
  bool all = true;
  for (int64_t q = 0; q < num_queries; ++q) {
    for (int64_t w = 0; w < words_per_row; ++w, ++words) {
      any = any || *words != 0;
      all = all && *words == leading_bits(num_keys, w);
      if (any && !all) return TileVerdict::kMixed;
    }
  }
  return any ? TileVerdict::kFull : TileVerdict::kEmpty;
}

void check_mask_shape(const MaskShape& shape) {
  const std::pair<const char*, int64_t> fields[] = {
      {"batch", shape.batch},   {"heads", shape.heads},     {"q_len", shape.q_len},
      {"kv_len", shape.kv_len}, {"block.q", shape.block.q}, {"block.kv", shape.block.kv}};
  for (const auto& [name, value] : fields) {
    TORCH_CHECK(value >= 1 && value <= std::numeric_limits<int32_t>::max(), "MaskShape.", name,
                ": got ", value, ", expected 1 to ", std::numeric_limits<int32_t>::max());
  }
  int64_t pairs = 0;
  const bool overflow = __builtin_mul_overflow(shape.q_len, shape.kv_len, &pairs) ||
                        __builtin_mul_overflow(pairs, shape.heads, &pairs) ||
                        __builtin_mul_overflow(pairs, shape.batch, &pairs);
  TORCH_CHECK(!overflow, "MaskShape: got ", shape.batch, " x ", shape.heads, " x ", shape.q_len,
              " x ", shape.kv_len, " pairs, expected fewer than 2^63");
}

int64_t BlockMaskData::num_q_blocks() const { return num_blocks(shape.q_len, shape.block.q); }
int64_t BlockMaskData::num_kv_blocks() const { return num_blocks(shape.kv_len, shape.block.kv); }
int64_t BlockMaskData::num_tiles() const {
  return static_cast<int64_t>(tile_bits.size()) / words_per_tile(*this);
}

BlockMask::BlockMask(BlockMaskData data) {
  check_data(data);
  shared_ = std::make_shared<Shared>(std::move(data));
}

const BlockMaskData& BlockMask::data() const { return shared_->data; }

c10::ArrayRef<BlockRun> BlockMask::runs(int64_t b, int64_t h, int64_t q_block) const {
  const auto in_range = [](int64_t index, int64_t size) { return index >= 0 && index < size; };
  TORCH_CHECK((shape().batch == 1 || in_range(b, shape().batch)) &&
                  (shape().heads == 1 || in_range(h, shape().heads)) &&
                  in_range(q_block, data().num_q_blocks()),
              "BlockMask: got batch row ", b, ", head ", h, ", query block ", q_block,
              ", expected less than ", shape().batch, ", ", shape().heads, ", ",
              data().num_q_blocks());
  return runs_of_row(data(), tile_row(data(), b, h, q_block));
}

bool BlockMask::allows(int64_t b, int64_t h, int64_t q, int64_t kv) const {
  TORCH_CHECK(q >= 0 && q < shape().q_len && kv >= 0 && kv < shape().kv_len,
              "BlockMask::allows: got query ", q, ", key ", kv, ", expected less than ",
              shape().q_len, " and ", shape().kv_len);
  const BlockSize& block = shape().block;
  const int64_t kv_block = kv / block.kv;
  const c10::ArrayRef<BlockRun> row = runs(b, h, q / block.q);
  const auto after =
      std::upper_bound(row.begin(), row.end(), kv_block,
                       [](int64_t value, const BlockRun& run) { return value < run.begin; });
  if (after == row.begin() || kv_block >= (after - 1)->end) return false;
  const BlockRun& run = *(after - 1);
  if (run.full()) return true;
  const uint64_t* words = tile_words(data(), run.tile) + q % block.q * data().words_per_row();
  return bit(words, kv % block.kv);
}

int64_t BlockMask::num_pairs() const {
  const std::vector<int64_t> per_tile = pairs_per_tile(data());
  int64_t pairs = 0;
  for (size_t row = 0; row + 1 < data().row_offsets.size(); ++row) {
    for (const BlockRun& run : runs_of_row(data(), row)) {
      pairs += run.full() ? area(data(), row, run.begin, run.end) : per_tile[run.tile];
    }
  }
  return pairs;
}

double BlockMask::sparsity() const {
  int64_t present = 0;
  for (size_t row = 0; row + 1 < data().row_offsets.size(); ++row) {
    for (const BlockRun& run : runs_of_row(data(), row)) {
      present += area(data(), row, run.begin, run.end);
    }
  }
  const double all = static_cast<double>(shape().batch) * static_cast<double>(shape().heads) *
                     static_cast<double>(shape().q_len) * static_cast<double>(shape().kv_len);
  return 100.0 * (1.0 - static_cast<double>(present) / all);
}

bool BlockMask::is_full() const {
  const BlockRun whole{0, static_cast<int32_t>(data().num_kv_blocks())};
  const bool one_run_a_row = data().runs.size() + 1 == data().row_offsets.size();
  return one_run_a_row && std::all_of(data().runs.begin(), data().runs.end(),
                                      [&](const BlockRun& run) { return run == whole; });
}

bool BlockMask::is_causal() const {
  const std::lock_guard lock(shared_->mutex);
  if (!shared_->causal) shared_->causal = has_causal_rows(data());
  return *shared_->causal;
}

BlockMask BlockMask::with_plan(std::shared_ptr<const MaskPlan> plan) const {
  BlockMask mask = *this;
  mask.plan_ = std::move(plan);
  return mask;
}

bool BlockMask::operator==(const BlockMask& other) const {
  if (!equal_plans(plan_.get(), other.plan_.get())) return false;
  if (shared_ == other.shared_) return true;
  if (shape() != other.shape()) return false;
  for (size_t row = 0; row + 1 < data().row_offsets.size(); ++row) {
    if (!equal_rows(data(), row, other.data(), row)) return false;
  }
  return true;
}

}  // namespace tessera
