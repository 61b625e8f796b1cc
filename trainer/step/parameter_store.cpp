#include "trainer/step/parameter_store.h"

#include "models/init/init.h"

namespace tessera {

ParameterStore::ParameterStore(Model& model, const ParameterStoreOptions& options, uint64_t seed,
                               const ParameterGroups& groups)
    : ParameterStore(model.blocks(), options, seed, groups) {}

ParameterStore::ParameterStore(const std::vector<Block*>& blocks,
                               const ParameterStoreOptions& options, uint64_t seed,
                               const ParameterGroups& groups)
    : ShardedParameters(blocks, groups, options) {
  for (NamedShard& shard : named(masters())) {
    initialize_shard(shard.tensor, shard.where, shard.whole_shape, shard.init, seed, shard.name);
  }
  refresh();
}

NamedTensors ParameterStore::named_views(const at::Tensor& flat) const {
  NamedTensors views;
  for (const NamedShard& shard : named(flat)) views.emplace_back(shard.name, shard.tensor);
  return views;
}

}  // namespace tessera
