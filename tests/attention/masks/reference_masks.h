// Slow, obvious counterparts for the tests of masks: rules as closures, block masks from element
// masks. Internal to tests.
//
// Shape legend: B batch rows, H heads, T query tokens, S key tokens.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_fn.h"
#include "attention/masks/mask_mod.h"

namespace tessera::testing {

// One int64 a token, or a batch row.
inline at::Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

// Documents of these lengths, one behind the other.
inline MaskMod documents(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> ids_T;
  for (size_t i = 0; i < lengths.size(); ++i) {
    ids_T.insert(ids_T.end(), static_cast<size_t>(lengths[i]), static_cast<int64_t>(i));
  }
  return document(ids(ids_T));
}

using ElementRule = std::function<bool(int64_t b, int64_t h, int64_t q, int64_t kv)>;

// A rule and, built beside it, the closure of its meaning.
struct RandomRule {
  MaskMod rule;
  ElementRule allows;
};

// Random rules over tokens 0 to max_tokens - 1, as a function of the seed.
class RandomRules {
 public:
  RandomRules(uint32_t seed, int64_t max_tokens) : random_(seed), max_tokens_(max_tokens) {}

  int64_t uniform(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  // Document ids [rows, max_tokens], int64: runs of 1 to `max_length` tokens, ids going up or down.
  at::Tensor document_ids(int64_t rows, int64_t max_length) {
    at::Tensor ids_BT = at::empty({rows, max_tokens_}, at::kLong);
    int64_t* ids = ids_BT.mutable_data_ptr<int64_t>();
    for (int64_t b = 0; b < rows; ++b) {
      int64_t id = uniform(-3, 3);
      const int64_t step = uniform(0, 1) == 0 ? 1 : -7;
      int64_t left = uniform(1, max_length);
      for (int64_t t = 0; t < max_tokens_; ++t, --left) {
        if (left == 0) {
          id += step;
          left = uniform(1, max_length);
        }
        ids[b * max_tokens_ + t] = id;
      }
    }
    return ids_BT;
  }

  // A rule of at most `depth` levels of operators. `batch`: rows of a leaf's tensor, or 1 to have
  // every leaf the same for all rows. `opaque`: whether mask_fn may occur.
  RandomRule rule(int64_t batch, int depth, bool opaque = true) {
    if (depth == 0 || uniform(0, 3) == 0) return leaf(batch, opaque);
    const RandomRule a = rule(batch, depth - 1, opaque);
    switch (uniform(0, 7)) {
      case 0:
      case 1:
        return {~a.rule, [a](auto... at) { return !a.allows(at...); }};
      case 2:
        return shifted(a);
      case 3:
        return in_documents(a, batch);
      default:
        break;
    }
    const RandomRule b = rule(batch, depth - 1, opaque);
    if (uniform(0, 1) == 0) {
      return {a.rule & b.rule, [a, b](auto... at) { return a.allows(at...) && b.allows(at...); }};
    }
    return {a.rule | b.rule, [a, b](auto... at) { return a.allows(at...) || b.allows(at...); }};
  }

  // Block ids [rows, max_tokens], int64: ids -1 to 3 in runs; equal ids may lie apart.
  at::Tensor scattered_ids(int64_t rows) {
    at::Tensor ids_BT = at::empty({rows, max_tokens_}, at::kLong);
    int64_t* ids = ids_BT.mutable_data_ptr<int64_t>();
    for (int64_t t = 0; t < rows * max_tokens_; ++t) {
      ids[t] = t > 0 && uniform(0, 3) != 0 ? ids[t - 1] : uniform(-1, 3);
    }
    return ids_BT;
  }

 private:
  // `a` at shifted indices, or `a` itself where the shifted rule does not cover all tokens.
  RandomRule shifted(const RandomRule& a) {
    const int64_t q_by = uniform(-6, 6);
    const int64_t kv_by = uniform(-6, 6);
    const MaskMod rule = offset(a.rule, q_by, kv_by);
    const TokenRange tokens{0, max_tokens_};
    const auto covers = [&](TokenRange range) {
      return range.begin <= 0 && range.end >= tokens.end;
    };
    if (!covers(rule.covered_queries()) || !covers(rule.covered_keys())) return a;
    return {rule, [=](int64_t b, int64_t h, int64_t q, int64_t kv) {
              return a.allows(b, h, q + q_by, kv + kv_by);
            }};
  }

  RandomRule in_documents(const RandomRule& a, int64_t batch) {
    const int64_t rows = uniform(0, 1) == 0 ? 1 : batch;
    const at::Tensor ids_BT = document_ids(rows, uniform(1, max_tokens_));
    const int64_t num_tokens = max_tokens_;
    return {per_document(a.rule, ids_BT), [=](int64_t b, int64_t h, int64_t q, int64_t kv) {
              const int64_t* ids = row_of(ids_BT, b, num_tokens);
              int64_t start = q;
              while (start > 0 && ids[start - 1] == ids[q]) --start;
              return ids[q] == ids[kv] && a.allows(b, h, q - start, kv - start);
            }};
  }

  static const int64_t* row_of(const at::Tensor& ids_BT, int64_t b, int64_t num_tokens) {
    return ids_BT.const_data_ptr<int64_t>() + (ids_BT.size(0) == 1 ? 0 : b) * num_tokens;
  }

  RandomRule leaf(int64_t batch, bool opaque) {
    switch (uniform(0, opaque ? 15 : 14)) {
      case 0:
        return {full(), [](auto...) { return true; }};
      case 1:
        return {none(), [](auto...) { return false; }};
      case 2:
      case 3:
      case 4:
        return {causal(), [](int64_t, int64_t, int64_t q, int64_t kv) { return kv <= q; }};
      case 5:
      case 6:
        return window_leaf();
      case 7:
      case 8:
        return chunked_leaf();
      case 9: {
        const int64_t n = uniform(0, max_tokens_);
        return {first_tokens(n), [n](int64_t, int64_t, int64_t, int64_t kv) { return kv < n; }};
      }
      case 15:
        return opaque_leaf();
      default:
        return tensor_leaf(uniform(0, 1) == 0 ? 1 : batch);
    }
  }

  RandomRule window_leaf() {
    Window window;
    if (uniform(0, 3) != 0) window.left = uniform(0, max_tokens_);
    if (uniform(0, 3) != 0) window.right = uniform(0, max_tokens_ / 2);
    return {sliding_window(window), [window](int64_t, int64_t, int64_t q, int64_t kv) {
              return (!window.left || q - kv <= *window.left) &&
                     (!window.right || kv - q <= *window.right);
            }};
  }

  RandomRule chunked_leaf() {
    const int64_t size = uniform(1, max_tokens_);
    const auto chunk = [size](int64_t token) {
      int64_t index = 0;
      while (token < index * size) --index;
      while (token >= (index + 1) * size) ++index;
      return index;
    };
    return {chunked(size),
            [chunk](int64_t, int64_t, int64_t q, int64_t kv) { return chunk(q) == chunk(kv); }};
  }

  RandomRule opaque_leaf() {
    const int64_t step = uniform(1, 4);
    const ElementRule allows = [step](int64_t b, int64_t, int64_t q, int64_t kv) {
      return (q - kv + 1000 + b) % step == 0;
    };
    return {mask_fn("dilated", {{"step", step}}, allows), allows};
  }

  RandomRule tensor_leaf(int64_t rows) {
    const int64_t num_tokens = max_tokens_;
    switch (uniform(0, 4)) {
      case 0: {
        const at::Tensor ids_BT = scattered_ids(rows);
        return {block_ids(ids_BT), [=](int64_t b, int64_t, int64_t q, int64_t kv) {
                  const int64_t* ids = row_of(ids_BT, b, num_tokens);
                  return ids[q] >= 0 && ids[q] == ids[kv];
                }};
      }
      case 1: {
        const at::Tensor ids_BT = scattered_ids(rows);
        return {key_padding(ids_BT.ne(0)), [=](int64_t b, int64_t, int64_t, int64_t kv) {
                  return row_of(ids_BT, b, num_tokens)[kv] != 0;
                }};
      }
      case 2: {
        const at::Tensor lengths_B = at::empty({rows}, at::kLong);
        for (int64_t b = 0; b < rows; ++b) {
          lengths_B.mutable_data_ptr<int64_t>()[b] = uniform(0, max_tokens_);
        }
        return {prefix_lm(lengths_B), [=](int64_t b, int64_t, int64_t q, int64_t kv) {
                  return kv <= q || kv < row_of(lengths_B, b, 1)[0];
                }};
      }
      default:
        break;
    }
    const at::Tensor ids_BT = document_ids(rows, uniform(1, max_tokens_));
    return {document(ids_BT), [=](int64_t b, int64_t, int64_t q, int64_t kv) {
              const int64_t* ids = row_of(ids_BT, b, num_tokens);
              return ids[q] == ids[kv];
            }};
  }

  std::mt19937 random_;
  int64_t max_tokens_;
};

// The pairs of a rule, pair by pair: bool [B, H, T, S].
inline at::Tensor dense_from_rule(const ElementRule& allows, const MaskShape& shape) {
  at::Tensor dense_BHTS =
      at::empty({shape.batch, shape.heads, shape.q_len, shape.kv_len}, at::kBool);
  bool* out = dense_BHTS.mutable_data_ptr<bool>();
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t q = 0; q < shape.q_len; ++q) {
        for (int64_t kv = 0; kv < shape.kv_len; ++kv) *out++ = allows(b, h, q, kv);
      }
    }
  }
  return dense_BHTS;
}

// One tile of an element mask: its bits, how many pairs are set, and how many are in range.
struct ReferenceTile {
  std::vector<uint64_t> bits;
  int64_t pairs = 0;
  int64_t area = 0;
};

inline ReferenceTile reference_tile(const bool* head, const BlockMaskData& data, int64_t q_block,
                                    int64_t kv_block) {
  const MaskShape& shape = data.shape;
  ReferenceTile tile;
  tile.bits.assign(shape.block.q * data.words_per_row(), 0);
  for (int64_t i = 0; i < shape.block.q; ++i) {
    for (int64_t j = 0; j < shape.block.kv; ++j) {
      const int64_t q = q_block * shape.block.q + i;
      const int64_t kv = kv_block * shape.block.kv + j;
      if (q >= shape.q_len || kv >= shape.kv_len) continue;
      ++tile.area;
      if (!head[q * shape.kv_len + kv]) continue;
      ++tile.pairs;
      tile.bits[i * data.words_per_row() + j / 64] |= uint64_t{1} << (j % 64);
    }
  }
  return tile;
}

// The block mask of an element mask [B, H, T, S], tile by tile.
inline BlockMask block_mask_from_dense(const at::Tensor& dense_BHTS, BlockSize block) {
  const at::Tensor dense = dense_BHTS.contiguous();
  BlockMaskData data;
  data.shape = {dense.size(0), dense.size(1), dense.size(2), dense.size(3), block};
  data.row_offsets.push_back(0);
  for (int64_t group = 0; group < dense.size(0) * dense.size(1); ++group) {
    const bool* head = dense.const_data_ptr<bool>() + group * dense.size(2) * dense.size(3);
    for (int64_t q_block = 0; q_block < data.num_q_blocks(); ++q_block) {
      for (int32_t kv_block = 0; kv_block < data.num_kv_blocks(); ++kv_block) {
        const ReferenceTile tile = reference_tile(head, data, q_block, kv_block);
        const bool has_previous = static_cast<int64_t>(data.runs.size()) > data.row_offsets.back();
        if (tile.pairs == 0) continue;
        if (tile.pairs < tile.area) {
          data.runs.push_back({kv_block, kv_block + 1, static_cast<int32_t>(data.num_tiles())});
          data.tile_bits.insert(data.tile_bits.end(), tile.bits.begin(), tile.bits.end());
        } else if (has_previous && data.runs.back().full() && data.runs.back().end == kv_block) {
          ++data.runs.back().end;
        } else {
          data.runs.push_back({kv_block, kv_block + 1});
        }
      }
      data.row_offsets.push_back(static_cast<int32_t>(data.runs.size()));
    }
  }
  return BlockMask(std::move(data));
}

}  // namespace tessera::testing
