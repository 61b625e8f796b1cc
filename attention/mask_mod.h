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

  // The allowed keys of query row q among `keys`, as ranges. O(ranges + log documents), never
  // O(keys).
  RangeSet allowed_keys(int64_t b, int64_t h, int64_t q, TokenRange keys) const;

  // Verdict over all pairs (q in queries, kv in keys), in O(1) or O(log documents).
  TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const;

  // Number of batch rows / heads the rule distinguishes; 1 means that it is the same for all.
  int64_t batch_size() const;
  int64_t num_heads() const;

  // Tokens that the rule's own tensors cover, or -1 if it covers any length.
  int64_t num_tokens() const;

  // Infix form with the fewest parentheses; leaves that carry tensors print their name only.
  std::string to_string() const;

  size_t hash() const;
  bool operator==(const MaskMod& other) const;

  const MaskNode& node() const { return *node_; }

 private:
  std::shared_ptr<const MaskNode> node_;
};

// Leaves.
MaskMod causal();  // kv <= q
MaskMod full();    // every pair
MaskMod none();    // no pair

// Same document: ids[b][q] == ids[b][kv]. ids_BT: int64 [B, T] or [T] (one row for every batch
// element), on the CPU, equal ids of one row adjacent (a document is one run of tokens). Throws
// c10::Error otherwise.
MaskMod document(const at::Tensor& ids_BT);

// Operators. Order is kept as written, for printing and for equality; and / or are n-ary and
// flatten.
MaskMod and_masks(const std::vector<MaskMod>& rules);  // all of no rules is full()
MaskMod or_masks(const std::vector<MaskMod>& rules);   // any of no rules is none()
MaskMod not_mask(const MaskMod& rule);
MaskMod operator&(const MaskMod& a, const MaskMod& b);
MaskMod operator|(const MaskMod& a, const MaskMod& b);
MaskMod operator~(const MaskMod& a);

}  // namespace tessera
