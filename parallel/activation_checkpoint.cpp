#include "parallel/activation_checkpoint.h"

#include <c10/util/Exception.h>

namespace tessera {

int64_t checkpoint_every_nth_layer(const std::vector<Block*>& blocks, int64_t every_n) {
  TORCH_CHECK(every_n >= 0, "checkpoint_every_nth_layer: every_n is ", every_n,
              "; expected 0 (none) or more");
  int64_t num_layers = 0;
  int64_t num_recomputed = 0;
  for (Block* block : blocks) {
    if (block->name.rfind("layers.", 0) != 0) continue;
    ++num_layers;
    block->recompute = every_n > 0 && num_layers % every_n == 0;
    num_recomputed += block->recompute;
  }
  return num_recomputed;
}

}  // namespace tessera
