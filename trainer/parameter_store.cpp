#include "trainer/parameter_store.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "models/init.h"
#include "parallel/flat_parameters.h"

namespace tessera {

ParameterStore::ParameterStore(Model& model, const ParameterStoreOptions& options, uint64_t seed)
    : slots_(model.parameters()) {
  const at::NoGradGuard no_grad;
  const at::TensorOptions on_device = at::TensorOptions().device(options.device);
  const at::TensorOptions master_options = on_device.dtype(options.master_dtype);
  compute_ = bind_flat(slots_, on_device.dtype(options.compute_dtype));
  masters_ = options.master_dtype == options.compute_dtype
                 ? compute_
                 : at::zeros(compute_.sizes(), master_options);
  gradients_ = at::zeros(compute_.sizes(), master_options);

  const std::vector<at::Tensor> gradients = flat_views(gradients_, slots_);
  std::vector<at::Tensor> masters = flat_views(masters_, slots_);
  for (size_t i = 0; i < slots_.size(); ++i) {
    initialize(masters[i], slots_[i].init, seed, slots_[i].name);
    slots_[i].tensor->mutable_grad() =
        gradients[i];  // autograd accumulates in place, in the master dtype
  }
  refresh();
}

NamedTensors ParameterStore::named_views(const at::Tensor& flat) const {
  const std::vector<at::Tensor> views = flat_views(flat, slots_);
  NamedTensors named;
  named.reserve(views.size());
  for (size_t i = 0; i < views.size(); ++i) named.emplace_back(slots_[i].name, views[i]);
  return named;
}

void ParameterStore::refresh() {
  if (!compute_.is_same(masters_)) compute_.copy_(masters_);
}

void ParameterStore::zero_gradients() { gradients_.zero_(); }

}  // namespace tessera
