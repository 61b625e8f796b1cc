// What a rank builds of a model: decided by the trainer, given to a model's constructor as values,
// so that its forward names no rank and no degree. A default placement is the whole model.
#pragma once

#include "parallel/tensor/tensor_parallel.h"

namespace tessera {

struct ModelPlacement {
  TensorParallel tensor = {};
};

}  // namespace tessera
