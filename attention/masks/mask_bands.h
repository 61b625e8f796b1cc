// Bands: the interval form of a mask rule, which everything that lowers a rule is built on.
//
// A band is a stripe of the attention matrix: for every query of a range, the keys between a lower
// and an upper edge, where an edge is the tighter of a constant and a diagonal. Causal is one band,
// a window is one band, each packed document is one band; the intersection of two bands is a band.
// So a rule over a million tokens is as many bands as it has documents, and no operation on rules
// needs to look at single elements.
//
// Lowering and planning read bands; users hold a MaskMod.
//
//   Band document{.queries = {10, 20}, .keys = {10, 20}};
//   Band causal{.queries = {0, 64}, .keys = {0, 64}, .diag_end = 1};    // kv < q + 1
//   Band both = intersect(document, causal);
//
// All indices and lengths count tokens. No function here throws.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention/masks/mask_mod.h"

namespace tessera {

inline TokenRange intersect(TokenRange a, TokenRange b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}
inline bool contains(TokenRange outer, TokenRange inner) {
  return outer.begin <= inner.begin && inner.end <= outer.end;
}
inline bool disjoint(TokenRange a, TokenRange b) { return a.end <= b.begin || b.end <= a.begin; }

// The pairs with q in queries, kv in keys and q + diag_begin <= kv < q + diag_end.
struct Band {
  // Beyond every sequence length, and far enough from the limits of int64 for sums of a few.
  static constexpr int64_t kUnbounded = int64_t{1} << 48;

  TokenRange queries;
  TokenRange keys;
  int64_t diag_begin = -kUnbounded;
  int64_t diag_end = kUnbounded;

  // The keys of query q are first_key(q) to end_key(q), half-open.
  int64_t first_key(int64_t q) const { return std::max(keys.begin, q + diag_begin); }
  int64_t end_key(int64_t q) const { return std::min(keys.end, q + diag_end); }
  bool empty() const { return queries.empty(); }  // no pair; exact for a tight band
  bool operator==(const Band&) const = default;
};

// The range or band of the same tokens when these are renumbered: `by` (or q and kv) is added to
// each index.
inline TokenRange shifted(TokenRange range, int64_t by) {
  return {range.begin + by, range.end + by};
}
inline Band shifted(const Band& band, int64_t q, int64_t kv) {
  return {.queries = shifted(band.queries, q),
          .keys = shifted(band.keys, kv),
          .diag_begin = band.diag_begin + kv - q,
          .diag_end = band.diag_end + kv - q};
}

// The common pairs as a *tight* band: `queries` are exactly the rows that have a key, `keys` is the
// hull of their keys. Empty when there is no common pair.
Band intersect(const Band& a, const Band& b);

// Appends the common band of two, if they have a pair in common.
inline void append_common(const Band& a, const Band& b, std::vector<Band>& out) {
  const Band common = intersect(a, b);
  if (!common.empty()) out.push_back(common);
}

// Appends the pairs of `from` that lie in none of `bands`, as tight bands that do not overlap.
// `bands` must be tight; they may overlap and come in any order.
void subtract(const Band& from, std::vector<Band> bands, std::vector<Band>& out);

// Sorts the ranges, drops empty ones and merges those that overlap or touch.
RangeSet merge_ranges(RangeSet ranges);

}  // namespace tessera
