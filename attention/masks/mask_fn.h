// mask_fn: any predicate as a mask rule.
//
// The other leaves are intervals, and their cost does not depend on how many pairs they hold. A
// predicate is opaque: every tile that the rest of the rule leaves open is evaluated, pair by pair,
// in parallel. So combine it with what bounds it: causal() & document(ids) & mask_fn(...).
//
//   MaskMod dilated = mask_fn("dilated", {{"step", 3}}, [](int64_t b, int64_t h, int64_t q,
//                                                          int64_t kv) { return (q - kv) % 3 == 0;
//                                                          });
//
// The name and the parameters are the rule's identity: two with the same compare equal and print
// the same, so they must allow the same pairs. To have a name parsed from text, register it
// (mask_registry.h).
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

// Overwrites bits 0 to keys.size() of `bits` (64 a word) with what query q may attend to among
// `keys`. Called from several threads at once.
using MaskRowFn =
    std::function<void(int64_t b, int64_t h, int64_t q, TokenRange keys, uint64_t* bits)>;

// For predicates that answer whole rows faster than pair by pair. Throws c10::Error when the name
// is not a word of letters, digits and "_", or the function is missing.
MaskMod mask_row_fn(std::string name, MaskParams params, MaskRowFn fill_row);

// allows(b, h, q, kv) -> bool: pure, and callable from several threads at once. It is asked for
// every batch row and head of the mask's shape; give the shape batch 1 (heads 1) when it depends on
// neither. A template, so that the loop over the keys of a row calls it directly.
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
