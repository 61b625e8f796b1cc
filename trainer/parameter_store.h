// Storage of a model's parameters on one rank: masters, compute copies and gradients, each in one
// flat buffer.
//
// The optimizer works on the flat masters and gradients; checkpoints and diagnostics on the named
// views into them. With equal dtypes the model computes on the masters themselves. Otherwise (mixed
// precision) it computes on copies that refresh() renews after each optimizer step, and gradients
// are accumulated in the master dtype: what FSDP does with more ranks, so that precision acts alike
// at degree 1 and at degree N.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/model.h"
#include "models/safetensors.h"

namespace tessera {

struct ParameterStoreOptions {
  at::Device device = at::kCPU;
  at::ScalarType master_dtype = at::kFloat;   // [training] dtype
  at::ScalarType compute_dtype = at::kFloat;  // [training] mixed_precision_param
};

class ParameterStore {
 public:
  // Materialises every slot of a model built on the meta device and initialises it from (seed,
  // name, index). The model must outlive the store.
  ParameterStore(Model& model, const ParameterStoreOptions& options, uint64_t seed);

  at::Tensor& masters() { return masters_; }
  at::Tensor& gradients() { return gradients_; }

  // Views into `flat`, a buffer laid out like masters(), under the parameters' names and shapes.
  NamedTensors named_views(const at::Tensor& flat) const;
  NamedTensors named_masters() const { return named_views(masters_); }
  NamedTensors named_gradients() const { return named_views(gradients_); }

  // Copies the masters to the model's compute copies. Call after the masters changed.
  void refresh();

  void zero_gradients();

 private:
  std::vector<ParameterSlot> slots_;
  at::Tensor masters_;
  at::Tensor compute_;  // the same tensor as masters_ when the dtypes are equal
  at::Tensor gradients_;
};

}  // namespace tessera
