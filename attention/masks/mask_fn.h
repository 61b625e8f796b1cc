// mask_fn: any predicate as a mask rule.
//
// The other leaves are intervals, and their cost does not depend on how many pairs they hold. A
// predicate is opaque: every tile that the rest of the rule leaves open is evaluated, pair by pair,
// in parallel. It is therefore best combined with rules that bound it:
//
//   const auto allows = [](int64_t b, int64_t h, int64_t q, int64_t kv) {
//     return (q - kv) % 3 == 0;
//   };
//   MaskMod dilated = mask_fn("dilated", {{"step", 3}}, allows);
//   MaskMod rule = causal() & document(ids_BT) & dilated;
//   rule.to_string();   // "causal & document & dilated(step=3)"
//
// The name and the parameters are the rule's identity: two rules with the same name and parameters
// compare equal and print the same, so they must allow the same pairs. A name can be parsed from
// text once it is registered (attention/registry/mask_registry.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "attention/masks/mask_mod.h"

namespace tessera {

// Named integer arguments in the order in which they are printed.
using MaskParams = std::vector<std::pair<std::string, int64_t>>;

// Overwrites bits 0 to keys.size() - 1 of `bits` (64 a word, lowest bit first) with the keys among
// `keys` that query q may attend to: bit i is key keys.begin + i. Further bits of the last word
// must become zero. It must be pure, and is called from several threads at once.
using MaskRowFn =
    std::function<void(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits)>;

// A rule of a function that answers whole rows, for predicates that do this faster than pair by
// pair. Throws c10::Error when the name is not a word of letters, digits and "_", or the function
// is missing.
MaskMod mask_row_fn(std::string name, MaskParams params, MaskRowFn fill_row);

// A rule of a predicate allows(b, h, q, kv) -> bool in absolute indices, which must be pure and
// callable from several threads at once. It is asked for every batch row and head of the mask's
// shape, so a shape with batch 1 (heads 1) is cheaper where it depends on neither. Throws as
// mask_row_fn does. This is a template so that the loop over the keys of a row calls `allows`
// directly.
template <typename Allows>
MaskMod mask_fn(std::string name, MaskParams params, Allows allows) {
  return mask_row_fn(std::move(name), std::move(params),
                     [allows](int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits) {
                       for (int64_t kv = keys.begin; kv < keys.end; kv += 64) {
                         const int64_t count = keys.end - kv < 64 ? keys.end - kv : 64;
                         uint64_t word = 0;
                         for (int64_t i = 0; i < count; ++i) {
                           word |= uint64_t{allows(b, h, q, kv + i) ? 1U : 0U} << i;
                         }
                         *bits++ = word;
                       }
                     });
}

}  // namespace tessera
