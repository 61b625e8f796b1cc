// MaskMod: a boolean attention rule as a value.
//
// A rule is a small expression tree over absolute indices (batch b, head h, query q, key kv), in
// the manner of FlexAttention's mask_mod functions, but made of data: rules compare equal, hash and
// print themselves. `allows` is the definition of a rule; every lowered form (block mask, dense
// tensor) agrees with it. Rules are immutable, and copies share their tree.
//
//   MaskMod rule = causal() & document(batch.document_ids_BT);
//   rule.allows(/*b=*/0, /*h=*/0, /*q=*/5, /*kv=*/3);     // true if 3 and 5 share a document
//   rule.to_string();                                     // "causal & document"
//
// Shape legend: B batch rows, T tokens of a row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

// Half-open range of token indices, empty when begin >= end.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end > begin ? end - begin : 0; }
  bool empty() const { return end <= begin; }
  bool operator==(const TokenRange&) const = default;
};

// Ascending, disjoint, non-adjacent, non-empty ranges.
using RangeSet = std::vector<TokenRange>;

// What a rule can say of a rectangle of (q, kv) pairs without looking at each.
// `kMixed` is always a correct answer; `kFull` and `kEmpty` are promises.
enum class TileVerdict { kEmpty, kFull, kMixed };

class MaskNode;

// The members that take indices throw c10::Error for a batch row, head or token that the rule does
// not cover.
class MaskMod {
 public:
  // Wraps a node (mask_node.h). Throws c10::Error for null. Users call the factories below.
  explicit MaskMod(std::shared_ptr<const MaskNode> node);

  // Whether query q may attend to key kv, in absolute indices. The definition of the rule.
  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const;

  // The allowed keys of query row q among `keys`, as ranges. O(ranges + log documents); O(keys)
  // only for a rule that holds a mask_fn.
  RangeSet allowed_keys(int64_t b, int64_t h, int64_t q, TokenRange keys) const;

  // Verdict over all pairs (q in queries, kv in keys), from the rule's bands in that rectangle. A
  // rule that holds a mask_fn may answer kMixed where another verdict would be exact.
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const;

  // The number of batch rows (heads) that the rule distinguishes; 1 means that it is the same for
  // all, save for a mask_fn, which may ask for any.
  int64_t batch_size() const;
  int64_t num_heads() const;

  // The absolute indices for which the rule is defined: the tokens that its own tensors cover, or
  // all from -2^48 to 2^48 for a rule without tensors.
  TokenRange covered_queries() const;
  TokenRange covered_keys() const;

  // The infix form with the fewest parentheses, which parse_mask (attention/registry/mask_parser.h)
  // reads. Leaves that carry tensors print their name only.
  std::string to_string() const;

  // Rules are equal when they are built alike: the same leaves with the same parameters in the same
  // order. Leaves with tensors compare what the tensors say, such as where documents start.
  size_t hash() const;
  bool operator==(const MaskMod& other) const;

  const MaskNode& node() const { return *node_; }

 private:
  std::shared_ptr<const MaskNode> node_;
};

// Leaves. All count in absolute indices, as FlexAttention's mask_mods do. Tensors are on the CPU,
// of shape [B, T] or [T] (one row for every batch element), and are copied. A wrong dtype, device
// or shape, an empty tensor, and a number outside of its range throw c10::Error. Window sides and n
// go from 0 to 2^46 tokens, chunk sizes from 1.

MaskMod causal();  // kv <= q
MaskMod full();    // every pair
MaskMod none();    // no pair

// The number of *other* tokens that a query sees on either side; an omitted side is unbounded. The
// `sliding_window = W` of a causal model in Hugging Face's and FlexAttention's terms is {W - 1, 0}.
struct Window {
  std::optional<int64_t> left{};
  std::optional<int64_t> right{};
  bool operator==(const Window&) const = default;
};

// Keys near the query: q - left <= kv <= q + right.
MaskMod sliding_window(const Window& window);

// Same chunk of `size` tokens: floor(q / size) == floor(kv / size).
MaskMod chunked(int64_t size);

// Keys of the first n tokens (attention sinks in the sense of StreamingLLM): kv < n.
MaskMod first_tokens(int64_t n);

// Causal, and the first lengths[b] tokens are seen by all: kv <= q or kv < lengths[b].
// prefix_lengths_B is int64 [B], from 0 to 2^46.
MaskMod prefix_lm(const at::Tensor& prefix_lengths_B);

// Same document: ids[b][q] == ids[b][kv]. ids_BT is int64; equal ids of one row must be adjacent (a
// document is one run of tokens), else c10::Error is thrown.
MaskMod document(const at::Tensor& ids_BT);

// Same block, where ids are not negative: ids[b][q] == ids[b][kv] >= 0. ids_BT is int64; equal ids
// may lie apart. Images and bidirectional prefixes are such blocks, or'ed onto causal().
MaskMod block_ids(const at::Tensor& ids_BT);

// Valid keys: valid[b][kv]. valid_BT is bool.
MaskMod key_padding(const at::Tensor& valid_BT);

// `rule` at shifted indices: rule.allows(b, h, q + q_offset, kv + kv_offset). Offsets go from -2^46
// to 2^46.
MaskMod offset(const MaskMod& rule, int64_t q_offset, int64_t kv_offset);

// The pairs of one document whose offsets from the document's start `rule` allows: a packed row
// then equals its documents alone. ids_BT is as for document(). Throws c10::Error when the batch
// rows of rule and ids differ (and neither is 1), or when the rule does not cover a whole document.
MaskMod per_document(const MaskMod& rule, const at::Tensor& ids_BT);

// Operators. The order is kept as written, for printing and for equality; "and" and "or" are n-ary
// and flatten. Rules for different numbers of batch rows or heads (neither 1) throw c10::Error.
MaskMod and_masks(const std::vector<MaskMod>& rules);  // full() for no rules
MaskMod or_masks(const std::vector<MaskMod>& rules);   // none() for no rules
MaskMod not_mask(const MaskMod& rule);
MaskMod operator&(const MaskMod& a, const MaskMod& b);
MaskMod operator|(const MaskMod& a, const MaskMod& b);
MaskMod operator~(const MaskMod& a);

}  // namespace tessera
