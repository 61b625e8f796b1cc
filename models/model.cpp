#include "models/model.h"

#include "models/init.h"

namespace tessera {

std::vector<ParameterSlot> Model::parameters() {
  std::vector<ParameterSlot> slots;
  for (const Block* block : blocks()) {
    slots.insert(slots.end(), block->slots.begin(), block->slots.end());
  }
  return slots;
}

int64_t Model::num_parameters() {
  int64_t count = 0;
  for (const ParameterSlot& slot : parameters()) count += slot.tensor->numel();
  return count;
}

void initialize_parameters(Model& model, uint64_t seed) {
  for (const ParameterSlot& slot : model.parameters()) {
    initialize(*slot.tensor, slot.init, seed, slot.name);
  }
}

}  // namespace tessera
