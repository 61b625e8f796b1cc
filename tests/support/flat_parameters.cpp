#include "tests/support/flat_parameters.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <set>
#include <string>

namespace tessera {
namespace {

using at::Tensor;

constexpr int64_t kAlignment = 32;  // elements

void check_slots(const std::vector<ParameterSlot>& slots) {
  std::set<std::string> names;
  std::set<const Tensor*> addresses;
  for (const ParameterSlot& slot : slots) {
    TORCH_CHECK(slot.tensor != nullptr && slot.tensor->defined(), "parameter '", slot.name,
                "' has no tensor, expected one with the parameter's shape (meta device)");
    TORCH_CHECK(names.insert(slot.name).second, "parameter name '", slot.name, "' occurs twice");
    TORCH_CHECK(addresses.insert(slot.tensor).second, "parameter '", slot.name,
                "' has the tensor of another parameter; a tied parameter has one slot");
  }
}

void zero_padding(const Tensor& flat, const std::vector<ParameterSlot>& slots,
                  const FlatLayout& layout) {
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t begin = layout.offsets[i] + slots[i].tensor->numel();
    const int64_t end = i + 1 < slots.size() ? layout.offsets[i + 1] : layout.numel;
    if (begin < end) flat.narrow(0, begin, end - begin).zero_();
  }
}

}  // namespace

FlatLayout flat_layout(const std::vector<ParameterSlot>& slots) {
  FlatLayout layout;
  layout.offsets.reserve(slots.size());
  for (const ParameterSlot& slot : slots) {
    layout.offsets.push_back(layout.numel);
    layout.numel += (slot.tensor->numel() + kAlignment - 1) / kAlignment * kAlignment;
  }
  return layout;
}

std::vector<Tensor> flat_views(const Tensor& flat, const std::vector<ParameterSlot>& slots) {
  const FlatLayout layout = flat_layout(slots);
  TORCH_CHECK(flat.dim() == 1 && flat.numel() == layout.numel && flat.is_contiguous(),
              "flat buffer has shape ", flat.sizes(), " and strides ", flat.strides(),
              ", expected a contiguous [", layout.numel, "]");
  std::vector<Tensor> views;
  views.reserve(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const Tensor& like = *slots[i].tensor;
    views.push_back(flat.narrow(0, layout.offsets[i], like.numel()).view(like.sizes()));
  }
  return views;
}

Tensor bind_flat(const std::vector<ParameterSlot>& slots, at::TensorOptions options) {
  check_slots(slots);
  const at::ScalarType dtype = c10::typeMetaToScalarType(options.dtype());
  TORCH_CHECK(at::isFloatingType(dtype), "parameters have dtype ", dtype,
              ", expected a floating-point type");
  const FlatLayout layout = flat_layout(slots);
  Tensor flat = at::empty({layout.numel}, options.requires_grad(false));
  zero_padding(flat, slots, layout);
  const std::vector<Tensor> views = flat_views(flat, slots);
  for (size_t i = 0; i < slots.size(); ++i) {
    // variable_data() and not detach(): the leaf must not share the buffer's version counter.
    *slots[i].tensor = views[i].variable_data().set_requires_grad(true);
  }
  return flat;
}

}  // namespace tessera
