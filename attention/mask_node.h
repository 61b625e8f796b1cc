// MaskNode: one node of a rule's expression tree. Internal to attention/; users hold a MaskMod.
//
// A new leaf is one class that answers three questions about the same set of pairs (the element,
// the bands, the verdict of a rectangle) and says who it is (print, equality, hash). See README.md
// for an example.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/mask_bands.h"
#include "attention/mask_mod.h"

namespace tessera {

// How tightly a node's printed form binds.
enum class MaskPrecedence { kOr, kAnd, kNot, kLeaf };

class MaskNode {
 public:
  virtual ~MaskNode() = default;

  // Callers (MaskMod, create_block_mask) have checked that b, h and the tokens are covered.
  virtual bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const = 0;

  // Appends tight bands whose union is this rule within the tight band `within`. They may overlap.
  virtual void bands(int64_t b, int64_t h, const Band& within, std::vector<Band>& out) const = 0;

  // Verdict over a non-empty rectangle.
  virtual TileVerdict classify(int64_t b, int64_t h, TokenRange queries, TokenRange keys) const = 0;

  // As in MaskMod.
  virtual int64_t batch_size() const { return 1; }
  virtual int64_t num_heads() const { return 1; }
  virtual int64_t num_tokens() const { return -1; }

  virtual std::string to_string() const = 0;
  virtual MaskPrecedence precedence() const { return MaskPrecedence::kLeaf; }

  // `other` has this node's dynamic type.
  virtual bool equals(const MaskNode& other) const = 0;
  virtual size_t hash() const = 0;
};

inline size_t hash_combine(size_t seed, size_t value) {
  return (seed ^ value) * 0x9e3779b97f4a7c15ULL + (seed >> 29);
}

}  // namespace tessera
