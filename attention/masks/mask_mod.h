// MaskMod: a boolean attention rule as a value.
//
// A rule is a small expression tree over absolute indices (batch b, head h, query q, key kv), in
// the manner of FlexAttention's mask_mod functions, but made of data: rules compare equal, hash,
// print themselves and can be sent to another rank. `allows` is the definition; every lowered form
// (block mask, dense tensor) must agree with it.
//
//   MaskMod rule = causal() & document(batch.document_ids_BT);
//   rule.allows(/*b=*/0, /*h=*/0, /*q=*/5, /*kv=*/3);
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

class MaskMod {
 public:
  explicit MaskMod(std::shared_ptr<const MaskNode> node);

  // Whether query q may attend to key kv, in absolute indices. The definition of the rule.
  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const;

  // The allowed keys of query row q among `keys`, as ranges. O(ranges + log documents); O(keys)
  // only for a rule that holds a mask_fn.
  RangeSet allowed_keys(int64_t b, int64_t h, int64_t q, TokenRange keys) const;

  // Verdict over all pairs (q in queries, kv in keys), from the rule's bands in that rectangle. A
  // rule that holds a mask_fn may answer kMixed where another verdict would be exact.
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const;

  // Number of batch rows / heads the rule distinguishes; 1 means that it is the same for all.
  int64_t batch_size() const;
  int64_t num_heads() const;

  // Absolute indices for which the rule is defined: those that its own tensors cover, or all
  // (+-2^48).
  TokenRange covered_queries() const;
  TokenRange covered_keys() const;

  // Infix form with the fewest parentheses; leaves that carry tensors print their name only. What
  // is printed, parse_mask (mask_parser.h) reads.
  std::string to_string() const;

  size_t hash() const;
  bool operator==(const MaskMod& other) const;

  const MaskNode& node() const { return *node_; }

 private:
  std::shared_ptr<const MaskNode> node_;
};

// Leaves. All count in absolute indices, as FlexAttention's mask_mods do. Tensors are on the CPU,
// of shape [B, T] or [T] (one row for every batch element), and are copied; a wrong dtype, device
// or shape throws c10::Error.

MaskMod causal();  // kv <= q
MaskMod full();    // every pair
MaskMod none();    // no pair

// How many *other* tokens a query sees on either side; an omitted side is unbounded. The
// `sliding_window = W` of a causal model in Hugging Face's and FlexAttention's terms is {W - 1, 0}.
struct Window {
  std::optional<int64_t> left{};
  std::optional<int64_t> right{};
  bool operator==(const Window&) const = default;
};

// q - left <= kv <= q + right. Negative sides are refused.
MaskMod sliding_window(const Window& window);

// Same chunk of `size` tokens: floor(q / size) == floor(kv / size).
MaskMod chunked(int64_t size);

// Keys of the first n tokens (attention sinks in the sense of StreamingLLM): kv < n.
MaskMod first_tokens(int64_t n);

// Causal, and the first lengths[b] tokens are seen by all: kv <= q or kv < lengths[b]. int64 [B].
MaskMod prefix_lm(const at::Tensor& prefix_lengths_B);

// Same document: ids[b][q] == ids[b][kv]. int64; equal ids of one row are adjacent (a document is
// one run of tokens).
MaskMod document(const at::Tensor& ids_BT);

// Same block, where ids are not negative: ids[b][q] == ids[b][kv] >= 0. int64; equal ids may lie
// apart. Images, bidirectional prefixes: or'ed onto causal().
MaskMod block_ids(const at::Tensor& ids_BT);

// Valid keys: valid[b][kv]. bool.
MaskMod key_padding(const at::Tensor& valid_BT);

// `rule` at shifted indices: allows(q + q_offset, kv + kv_offset).
MaskMod offset(const MaskMod& rule, int64_t q_offset, int64_t kv_offset);

// Pairs of one document whose offsets from the document's start `rule` allows: a packed row then
// equals its documents alone. ids_BT as for document().
MaskMod per_document(const MaskMod& rule, const at::Tensor& ids_BT);

// Operators. Order is kept as written, for printing and for equality; and / or are n-ary and
// flatten.
MaskMod and_masks(const std::vector<MaskMod>& rules);  // all of no rules is full()
MaskMod or_masks(const std::vector<MaskMod>& rules);   // any of no rules is none()
MaskMod not_mask(const MaskMod& rule);
MaskMod operator&(const MaskMod& a, const MaskMod& b);
MaskMod operator|(const MaskMod& a, const MaskMod& b);
MaskMod operator~(const MaskMod& a);

}  // namespace tessera
