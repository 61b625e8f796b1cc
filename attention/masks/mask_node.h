// MaskNode: one node of a rule's expression tree. Internal to attention/; users hold a MaskMod.
//
// A new leaf is one class that answers two questions about the same set of pairs (the element, the
// bands) and says who it is (print, equality, hash). See README.md for an example. A rule that
// holds a mask_fn is opaque: its bands are bounds only, and what lies between the bounds is asked
// row by row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/masks/mask_bands.h"
#include "attention/masks/mask_mod.h"

namespace tessera {

// How tightly a node's printed form binds.
enum class MaskPrecedence { kOr, kAnd, kNot, kLeaf };

// The bound that an opaque rule's bands give: pairs that are surely allowed, or all that may be. A
// rule that is not opaque has the same bands for both.
enum class MaskBound { kCertain, kPossible };

inline MaskBound opposite(MaskBound bound) {
  return bound == MaskBound::kCertain ? MaskBound::kPossible : MaskBound::kCertain;
}

// Token indices that a rule without tensors covers: all.
inline constexpr TokenRange kAllTokens{-Band::kUnbounded, Band::kUnbounded};

class MaskNode {
 public:
  virtual ~MaskNode() = default;

  // Callers (MaskMod, create_block_mask) have checked that b, h and the tokens are covered.
  virtual bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const = 0;

  // Appends tight bands whose union is this rule (or the asked bound of an opaque one) within the
  // tight band `within`. The bands may overlap.
  virtual void bands(int64_t b, int64_t h, const Band& within, MaskBound bound,
                     std::vector<Band>& out) const = 0;

  // Overwrites bits 0 to keys.size() - 1 of `bits` with the allowed keys of query q; the rest of
  // the last word becomes zero. The default asks for bands, so an opaque node must override it.
  virtual void fill_row(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) const;

  // Whether a mask_fn is somewhere in this rule.
  virtual bool opaque() const { return false; }

  // The answers of MaskMod's functions of these names.
  virtual int64_t batch_size() const { return 1; }
  virtual int64_t num_heads() const { return 1; }
  virtual TokenRange covered_queries() const { return kAllTokens; }
  virtual TokenRange covered_keys() const { return kAllTokens; }

  virtual std::string to_string() const = 0;
  virtual MaskPrecedence precedence() const { return MaskPrecedence::kLeaf; }

  // `other` has this node's dynamic type.
  virtual bool equals(const MaskNode& other) const = 0;
  virtual size_t hash() const = 0;
};

inline int64_t num_words(int64_t num_bits) { return (num_bits + 63) / 64; }

// Sets bits [begin, end) of `words`, 64 a word, lowest bit first. begin < end.
void set_bits(uint64_t* words, int64_t begin, int64_t end);

inline size_t hash_combine(size_t seed, size_t value) {
  return (seed ^ value) * 0x9e3779b97f4a7c15ULL + (seed >> 29);
}

}  // namespace tessera
