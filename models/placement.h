// ModelPlacement: the part of a model that one rank builds. The trainer decides it and gives it to
// the model's constructor as values, so that the forward names no rank and no degree. A default
// placement is the whole model.
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
  // How weights are cut over tensor-parallel ranks; by default they are not.
  TensorParallel tensor = {};

  // The modules of one pipeline stage; without a value all modules are built. Modules that are
  // absent pass their input through.
  std::optional<pipeline::StageModules> stage = {};

  // Tied embeddings, for the stage with the head: the embedding's block of the stage that has it,
  // when that stage is on this rank. The block must outlive the model. Without it the head declares
  // a copy of the weight, under the embedding's name; whoever owns the parameters sums the
  // gradients of both (ShardedParameters::share_gradient).
  Block* tied_embedding = nullptr;

  // Takes the layers' weight gradients (split backward); null: they come with backward. Must
  // outlive the model.
  pipeline::WeightGradients* weight_gradients = nullptr;
};

}  // namespace tessera
