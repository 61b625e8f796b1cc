// A model's parameters on this rank with their initial values: ShardedParameters
// (parallel/fsdp/sharded_parameters.h) filled from (seed, name, index in the whole parameter), so
// that every layout starts from the same bits.
//
// The optimizer works on the flat masters and gradients; checkpoints and diagnostics work on named
// views into them. With equal dtypes the model computes on the masters themselves (on what is
// gathered from them with several shard ranks). In mixed precision it computes on copies that
// refresh() renews after each optimizer step, and gradients are accumulated in the master dtype, at
// degree 1 as at degree N.
//
//   ParameterStore parameters(model, {.device = device}, seed);
//   for (const auto& [name, tensor] : parameters.named_masters()) ...
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "data/files/safetensors.h"
#include "models/model.h"
#include "parallel/fsdp/sharded_parameters.h"

namespace tessera {

using ParameterStoreOptions = ShardedParametersOptions;

class ParameterStore : public ShardedParameters {
 public:
  // Gives storage and initial values to every slot of a model built on the meta device. groups: who
  // shares parameters with this rank; by default nobody. The model must outlive the store. Throws
  // what ShardedParameters' constructor throws.
  ParameterStore(Model& model, const ParameterStoreOptions& options, uint64_t seed,
                 const ParameterGroups& groups = {});

  // A store over the blocks of several models: the pipeline stages of a rank.
  ParameterStore(const std::vector<Block*>& blocks, const ParameterStoreOptions& options,
                 uint64_t seed, const ParameterGroups& groups = {});

  // Views of this rank's parts, by parameter, into `flat`, a buffer laid out like masters().
  NamedTensors named_views(const at::Tensor& flat) const;
  NamedTensors named_masters() const { return named_views(masters()); }
  NamedTensors named_gradients() const { return named_views(gradients()); }
};

}  // namespace tessera
