// Many parameters in one flat buffer, for tests: bind_flat materialises a model that was built on
// the meta device.
//
// The layout depends on the slots alone, not on the dtype, so buffers of master weights, compute
// weights, gradients and optimizer states of the same slots agree element by element.
//
//   // The model's parameters become views of `weights`.
//   at::Tensor weights = bind_flat(model.parameters(), at::kFloat);
//   std::vector<at::Tensor> grads = flat_views(at::zeros_like(weights), model.parameters());
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "parallel/slot.h"

namespace tessera {

// The layout of a flat buffer, in elements.
struct FlatLayout {
  std::vector<int64_t> offsets;  // of each slot's first element
  int64_t numel = 0;             // of the whole buffer
};

// The slots one after the other, each at a multiple of 32 elements: 64 bytes or more in any type of
// at least 2 bytes.
FlatLayout flat_layout(const std::vector<ParameterSlot>& slots);

// A view of `flat` for each slot, in the slot's shape. Throws c10::Error when flat is not
// contiguous, one-dimensional and of the layout's size.
std::vector<at::Tensor> flat_views(const at::Tensor& flat, const std::vector<ParameterSlot>& slots);

// Allocates a buffer and makes each slot's tensor (usually on the meta device before) a leaf over
// its part of the buffer that requires a gradient. Returns the buffer. Padding is zero; the
// parameters' values are undefined until they are filled.
//
// Each leaf has its own version counter: rewriting the buffer between a forward and its backward is
// legal (the caller knows what the backward should see). Throws c10::Error naming the slot for an
// undefined tensor, for a name or an address that occurs twice, and for a dtype that cannot have
// gradients.
at::Tensor bind_flat(const std::vector<ParameterSlot>& slots, at::TensorOptions options);

}  // namespace tessera
