// What a rank builds of a model: decided by the trainer, given to a model's constructor as values,
// so that its forward names no rank and no degree. A default placement is the whole model.
#pragma once

#include <optional>

#include "parallel/pipeline/stage_split.h"
#include "parallel/segment.h"
#include "parallel/tensor/tensor_parallel.h"

namespace tessera {

namespace pipeline {
class WeightGradients;
}

struct ModelPlacement {
  TensorParallel tensor = {};

  // The modules of one pipeline stage; nothing: all of them. Modules that are absent pass their
  // input through.
  std::optional<pipeline::StageModules> stage = {};

  // Tied embeddings, for the stage with the head: the embedding's block of the stage that has it,
  // when that is on this rank. Without it the head declares a copy of the weight, under the
  // embedding's name; whoever owns the parameters sums the gradients of both.
  Block* tied_embedding = nullptr;

  // Takes the layers' weight gradients (split backward). Must outlive the model.
  pipeline::WeightGradients* weight_gradients = nullptr;
};

}  // namespace tessera
