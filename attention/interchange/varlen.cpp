#include "attention/interchange/varlen.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "attention/block_mask/block_mask_shared.h"

namespace tessera {

namespace {

// The set bits of one row of a tile as one range, or nothing when there is a hole.
std::optional<TokenRange> bit_range(const uint64_t* words, int64_t num_words) {
  TokenRange range;
  int64_t count = 0;
  for (int64_t w = 0; w < num_words; ++w) {
    if (words[w] == 0) continue;
    if (count == 0) range.begin = w * 64 + std::countr_zero(words[w]);
    range.end = (w + 1) * 64 - std::countl_zero(words[w]);
    count += std::popcount(words[w]);
  }
  if (count != range.size()) return std::nullopt;
  return range;
}

// The keys of one query as one range, or nothing when it has none or they have a hole.
std::optional<TokenRange> key_range(const BlockMaskData& data, int64_t b, int64_t q) {
  const BlockSize& block = data.shape.block;
  TokenRange all;
  for (const BlockRun& run : runs_of_row(data, tile_row(data, b, 0, q / block.q))) {
    TokenRange keys{run.begin * block.kv, std::min(run.end * block.kv, data.shape.kv_len)};
    if (!run.full()) {
      const uint64_t* row = tile_words(data, run.tile) + q % block.q * data.words_per_row();
      const std::optional<TokenRange> bits = bit_range(row, data.words_per_row());
      if (!bits) return std::nullopt;
      keys = {keys.begin + bits->begin, keys.begin + bits->end};
    }
    if (keys.empty()) continue;
    if (!all.empty() && all.end != keys.begin) return std::nullopt;
    all = {all.empty() ? keys.begin : all.begin, keys.end};
  }
  if (all.empty()) return std::nullopt;
  return all;
}

// Key ranges of all queries of one batch row.
std::optional<std::vector<TokenRange>> key_ranges(const BlockMaskData& data, int64_t b) {
  std::vector<TokenRange> ranges;
  ranges.reserve(data.shape.q_len);
  for (int64_t q = 0; q < data.shape.q_len; ++q) {
    const std::optional<TokenRange> keys = key_range(data, b, q);
    if (!keys) return std::nullopt;
    ranges.push_back(*keys);
  }
  return ranges;
}

// The ends of the smallest possible documents. No pair crosses an end.
std::vector<int64_t> document_ends(const std::vector<TokenRange>& keys) {
  const auto num_tokens = static_cast<int64_t>(keys.size());
  std::vector<int64_t> ends;
  std::vector<int64_t> lowest_after(num_tokens + 1, num_tokens);  // key of any query from here on
  for (int64_t q = num_tokens - 1; q >= 0; --q) {
    lowest_after[q] = std::min(lowest_after[q + 1], keys[q].begin);
  }
  int64_t highest = 0;
  for (int64_t q = 0; q < num_tokens; ++q) {
    highest = std::max(highest, keys[q].end);
    if (highest <= q + 1 && lowest_after[q + 1] >= q + 1) ends.push_back(q + 1);
  }
  return ends;
}

// The window as queries show it: how far they reach, in tokens, and whether a side is ever cut by
// the window and not by the document.
struct Reach {
  int64_t left = 0;
  int64_t right = 0;
  bool cut_left = false;
  bool cut_right = false;
};

void add_reach(const std::vector<TokenRange>& keys, const std::vector<int64_t>& ends,
               Reach& reach) {
  int64_t start = 0;
  for (const int64_t end : ends) {
    for (int64_t q = start; q < end; ++q) {
      reach.left = std::max(reach.left, q - keys[q].begin);
      reach.right = std::max(reach.right, keys[q].end - 1 - q);
      reach.cut_left = reach.cut_left || keys[q].begin > start;
      reach.cut_right = reach.cut_right || keys[q].end < end;
    }
    start = end;
  }
}

bool follows(const std::vector<TokenRange>& keys, const std::vector<int64_t>& ends,
             const Window& window) {
  int64_t start = 0;
  for (const int64_t end : ends) {
    for (int64_t q = start; q < end; ++q) {
      const int64_t begin = window.left ? std::max(start, q - *window.left) : start;
      const int64_t stop = window.right ? std::min(end, q + *window.right + 1) : end;
      if (keys[q] != TokenRange{begin, stop}) return false;
    }
    start = end;
  }
  return true;
}

}  // namespace

std::optional<Varlen> to_varlen(const BlockMask& mask, int64_t batch) {
  const MaskShape& shape = mask.shape();
  TORCH_CHECK(batch >= 1 && (shape.batch == 1 || shape.batch == batch), "to_varlen: batch: got ",
              batch, ", expected ",
              shape.batch == 1 ? "at least 1" : c10::str(shape.batch, ", the mask's own"));
  if (shape.heads != 1 || shape.q_len != shape.kv_len) return std::nullopt;

  std::vector<std::vector<TokenRange>> keys;
  std::vector<std::vector<int64_t>> ends;
  Reach reach;
  for (int64_t b = 0; b < shape.batch; ++b) {
    std::optional<std::vector<TokenRange>> row = key_ranges(mask.data(), b);
    if (!row) return std::nullopt;
    ends.push_back(document_ends(*row));
    add_reach(*row, ends.back(), reach);
    keys.push_back(std::move(*row));
  }
  Varlen varlen{.cu_seqlens = {0}};
  if (reach.cut_left) varlen.window.left = reach.left;
  if (reach.cut_right) varlen.window.right = reach.right;
  for (int64_t b = 0; b < shape.batch; ++b) {
    if (!follows(keys[b], ends[b], varlen.window)) return std::nullopt;
  }
  TORCH_CHECK(batch * shape.q_len <= std::numeric_limits<int32_t>::max(), "to_varlen: got ", batch,
              " x ", shape.q_len, " tokens, expected at most 2^31 - 1");
  for (int64_t b = 0; b < batch; ++b) {
    for (const int64_t end : ends[shape.batch == 1 ? 0 : b]) {
      const auto cumulative = static_cast<int32_t>(b * shape.q_len + end);
      varlen.max_seqlen = std::max(varlen.max_seqlen, cumulative - varlen.cu_seqlens.back());
      varlen.cu_seqlens.push_back(cumulative);
    }
  }
  return varlen;
}

}  // namespace tessera
