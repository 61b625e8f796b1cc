#include "attention/registry.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

namespace tessera {

AttentionRegistry AttentionRegistry::with_builtins() {
  AttentionRegistry registry;
  registry.add({.name = "eager",
                .description = "plain tensor operations on the dense mask, float64-capable oracle",
                .function = eager_attention});
  registry.add({.name = "flex",
                .description = "block-sparse kernels on the CPU; time follows the live tiles",
                .function = flex_attention});
  registry.add({.name = "sdpa",
                .description = "LibTorch's scaled_dot_product_attention with an additive mask",
                .function = sdpa_attention});
  return registry;
}

void AttentionRegistry::add(AttentionBackend backend) {
  TORCH_CHECK(!backend.name.empty(), "AttentionRegistry::add: name: got \"\", expected a name");
  TORCH_CHECK(backend.function != nullptr, "AttentionRegistry::add: function of \"", backend.name,
              "\": got none, expected an AttentionFn");
  for (const AttentionBackend& other : backends_) {
    TORCH_CHECK(other.name != backend.name, "AttentionRegistry::add: name: got \"", backend.name,
                "\", expected one that is not taken; there are: ", c10::Join(", ", names()));
  }
  backends_.push_back(std::move(backend));
}

const AttentionBackend& AttentionRegistry::get(const std::string& name) const {
  for (const AttentionBackend& backend : backends_) {
    if (backend.name == name) return backend;
  }
  C10_THROW_ERROR(Error, c10::str("attention backend: got \"", name,
                                  "\", expected one of: ", c10::Join(", ", names())));
}

AttentionOp AttentionRegistry::make(const std::string& name) const {
  return AttentionOp(name, get(name).function);
}

std::vector<std::string> AttentionRegistry::names() const {
  std::vector<std::string> names;
  for (const AttentionBackend& backend : backends_) names.push_back(backend.name);
  return names;
}

}  // namespace tessera
