// A model's parameters on this rank with their initial values: ShardedParameters
// (parallel/fsdp/sharded_parameters.h) filled from (seed, name, index in the whole parameter), so
// that every layout starts from the same bits.
//
// The optimizer works on the flat masters and gradients; checkpoints and diagnostics on the named
// views into them. With equal dtypes the model computes on the masters themselves; in mixed
// precision on copies that refresh() renews after each optimizer step, and gradients are
// accumulated in the master dtype, at degree 1 as at degree N.
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
  // Materialises every slot of a model built on the meta device. The model must outlive the store.
  ParameterStore(Model& model, const ParameterStoreOptions& options, uint64_t seed,
                 const ParameterGroups& groups = {});

  // The same for blocks of several models: the pipeline stages of a rank.
  ParameterStore(const std::vector<Block*>& blocks, const ParameterStoreOptions& options,
                 uint64_t seed, const ParameterGroups& groups = {});

  // This rank's parts: views into `flat`, a buffer laid out like masters(), by parameter.
  NamedTensors named_views(const at::Tensor& flat) const;
  NamedTensors named_masters() const { return named_views(masters()); }
  NamedTensors named_gradients() const { return named_views(gradients()); }
};

}  // namespace tessera
