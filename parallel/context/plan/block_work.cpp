#include "parallel/context/plan/block_work.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <bit>

#include "attention/masks/mask_bands.h"

namespace tessera {

namespace {

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("popcnt", "default")))
#endif
int64_t
count_bits(const uint64_t* words, int64_t num_words) {
  int64_t count = 0;
  for (int64_t i = 0; i < num_words; ++i) count += std::popcount(words[i]);
  return count;
}

std::vector<int64_t> pairs_of_tiles(const BlockMaskData& data) {
  std::vector<int64_t> pairs(data.num_tiles());
  const int64_t words = data.shape.block.q * data.words_per_row();
  for (int64_t tile = 0; tile < data.num_tiles(); ++tile) {
    pairs[tile] = count_bits(data.tile_bits.data() + tile * words, words);
  }
  return pairs;
}

// Calls visit(block, run) for every run of the mask, over all batch rows and heads.
template <typename Visit>
void for_each_run(const BlockMaskData& data, int64_t block_size, Visit visit) {
  const int64_t rows_per_block = block_size / data.shape.block.q;
  const int64_t num_q_blocks = data.num_q_blocks();
  for (size_t row = 0; row + 1 < data.row_offsets.size(); ++row) {
    const int64_t block = static_cast<int64_t>(row) % num_q_blocks / rows_per_block;
    for (int32_t i = data.row_offsets[row]; i < data.row_offsets[row + 1]; ++i) {
      visit(block, data.runs[i]);
    }
  }
}

void add_costs(const BlockMask& mask, const WorkWeights& weights, double layers, BlockWork& work) {
  const BlockMaskData& data = mask.data();
  const MaskShape& shape = data.shape;
  const std::vector<int64_t> pairs = pairs_of_tiles(data);
  const double scale = layers / static_cast<double>(shape.batch * shape.heads);
  const double full_tile = weights.full_pair * static_cast<double>(shape.block.q * shape.block.kv);
  for_each_run(data, work.block_size, [&](int64_t block, const BlockRun& run) {
    work.costs[block] +=
        scale * (run.full() ? full_tile * (run.end - run.begin)
                            : weights.partial_pair * static_cast<double>(pairs[run.tile]));
  });
}

double layers_of(const WorkWeights& weights, const std::string& name) {
  for (const auto& [mask, layers] : weights.layers) {
    if (mask == name) return layers;
  }
  return 1;
}

}  // namespace

void check_shape_blocks(const std::string& what, const MaskShape& shape, int64_t seq_len,
                        int64_t block_size) {
  TORCH_CHECK(
      shape.sequence == MaskSequence::kRow, what,
      ": got a mask over a sequence of the model's own, expected one over the rows' tokens");
  TORCH_CHECK(shape.q_len == seq_len && shape.kv_len == seq_len, what, ": got ", shape.q_len, " x ",
              shape.kv_len, ", expected ", seq_len, " x ", seq_len,
              ", the length of the whole sequence");
  TORCH_CHECK(
      block_size >= 1 && block_size % shape.block.q == 0 && block_size % shape.block.kv == 0, what,
      ": got tiles of ", shape.block.q, " x ", shape.block.kv,
      ", expected divisors of the plan's blocks of ", block_size, " tokens");
}

void check_mask_blocks(const std::string& what, const BlockMask& mask, int64_t seq_len,
                       int64_t block_size) {
  TORCH_CHECK(mask.plan() == nullptr, what, ": got a mask with a plan (", mask.plan()->to_string(),
              "), expected one of the whole sequence");
  check_shape_blocks(what, mask.shape(), seq_len, block_size);
}

std::vector<RangeSet> block_reads(const BlockMask& mask, int64_t block_size) {
  const MaskShape& shape = mask.shape();
  check_mask_blocks("block_reads", mask, shape.q_len, block_size);
  const auto tiles_per_block = static_cast<int32_t>(block_size / shape.block.kv);
  std::vector<RangeSet> reads((shape.q_len + block_size - 1) / block_size);
  for_each_run(mask.data(), block_size, [&](int64_t block, const BlockRun& run) {
    const TokenRange range{run.begin / tiles_per_block, (run.end - 1) / tiles_per_block + 1};
    RangeSet& ranges = reads[block];
    if (!ranges.empty() && ranges.back().begin <= range.begin && range.begin <= ranges.back().end) {
      ranges.back().end = std::max(ranges.back().end, range.end);
    } else {
      ranges.push_back(range);
    }
  });
  for (RangeSet& ranges : reads) ranges = merge_ranges(std::move(ranges));
  return reads;
}

BlockWork block_work(const AttentionMasks& masks, int64_t block_size, const WorkWeights& weights) {
  TORCH_CHECK(masks.size() > 0, "block_work: masks: got none, expected at least one");
  for (const auto& [name, layers] : weights.layers) {
    TORCH_CHECK(masks.contains(name), "block_work: layers: got a mask \"", name,
                "\", expected one of: ", c10::Join(", ", masks.names()));
  }
  BlockWork work{.seq_len = masks.at(masks.names().front()).shape().q_len,
                 .block_size = block_size};
  for (const std::string& name : masks.names()) {
    const BlockMask& mask = masks.at(name);
    check_mask_blocks("block_work: mask \"" + name + "\"", mask, work.seq_len, block_size);
    work.costs.resize(work.seq_len / block_size);
    TORCH_CHECK(work.num_blocks() * block_size == work.seq_len, "block_work: mask \"", name,
                "\": got ", work.seq_len, " tokens, expected a multiple of the plan's blocks of ",
                block_size);
    const double layers = layers_of(weights, name);
    add_costs(mask, weights, layers, work);
    work.reads.push_back({.weight = layers, .of_block = block_reads(mask, block_size)});
  }
  return work;
}

double imbalance(const ShardPlan& plan, const BlockWork& work) {
  TORCH_CHECK(plan.num_blocks() == work.num_blocks(), "imbalance: got a plan of ",
              plan.num_blocks(), " blocks, expected ", work.num_blocks());
  double most = 0;
  double sum = 0;
  for (const std::vector<int64_t>& mine : plan.blocks()) {
    double cost = 0;
    for (const int64_t block : mine) cost += work.costs[block];
    most = std::max(most, cost);
    sum += cost;
  }
  return sum == 0 ? 1 : most * static_cast<double>(plan.num_ranks()) / sum;
}

}  // namespace tessera
