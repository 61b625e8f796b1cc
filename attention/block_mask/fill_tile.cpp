#include "attention/block_mask/fill_tile.h"

#include <algorithm>

#include "attention/masks/mask_node.h"

namespace tessera {

void fill_tile(const MaskMod& rule, int64_t b, int64_t h, TokenRange queries, TokenRange keys,
               const BlockSize& block, uint64_t* words) {
  const int64_t words_per_row = num_words(block.kv);
  std::fill(words, words + block.q * words_per_row, 0);
  for (int64_t q = queries.begin; q < queries.end; ++q, words += words_per_row) {
    rule.node().fill_row(b, h, q, keys, words);
  }
}

}  // namespace tessera
