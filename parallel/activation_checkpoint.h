// Activation checkpointing: which blocks drop their activations in forward and run forward again in
// backward (Block::recompute, parallel/segment.h). It trades time for memory; gradients are equal
// bit for bit.
//
//   checkpoint_every_nth_layer(model.blocks(), 2);   // layers.1, layers.3, ...
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/segment.h"

namespace tessera {

// Marks the layers (blocks named "layers.N") number every_n, 2 every_n, ... counted from 1 among
// `blocks`, as TorchTitan's selective mode with an integer option does, and unmarks the other
// layers; every_n = 1 is full checkpointing, 0 none. Other blocks are left as they are. Throws
// c10::Error when every_n is negative. Returns the number of blocks that will be recomputed.
int64_t checkpoint_every_nth_layer(const std::vector<Block*>& blocks, int64_t every_n);

}  // namespace tessera
