// Bits of one tile of a rule: how the builders of block masks lower what bands leave undecided.
// Internal to attention/.
#pragma once

#include <cstdint>

#include "attention/masks/mask_mod.h"
#include "attention/masks/mask_shape.h"

namespace tessera {

// Overwrites a bit tile (block.q rows of num_words(block.kv) words) with what the rule allows in a
// rectangle of at most one block; other bits become zero.
void fill_tile(const MaskMod& rule, int64_t b, int64_t h, TokenRange queries, TokenRange keys,
               const BlockSize& block, uint64_t* words);

}  // namespace tessera
