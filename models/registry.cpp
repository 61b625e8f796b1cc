#include "models/registry.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "attention/registry/mask_parser.h"
#include "models/llama3/llama3.h"

namespace tessera {
namespace {

struct Family {
  const char* name;
  std::vector<std::string> (*flavors)();
  int64_t (*num_layers)(const std::string& flavor);
  std::unique_ptr<Model> (*make)(const ModelRequest& request, const AttentionRegistry& attention,
                                 const ModelPlacement& placement);
};

// One line per family; see models/README.md. The families are a list and do not register
// themselves, because the linker drops objects of a static library that nothing refers to.
constexpr Family kFamilies[] = {
    {"llama3", llama3_flavors, [](const std::string& f) { return llama3_flavor(f).n_layers; },
     make_llama3},
};

const Family& family(const std::string& name) {
  for (const Family& candidate : kFamilies) {
    if (name == candidate.name) return candidate;
  }
  C10_THROW_ERROR(Error, c10::str("model.name is '", name,
                                  "', expected one of: ", c10::Join(", ", model_names())));
}

}  // namespace

std::unique_ptr<Model> make_model(const ModelRequest& request, const AttentionRegistry& attention,
                                  const ModelPlacement& placement) {
  return family(request.name).make(request, attention, placement);
}

int64_t model_num_layers(const std::string& name, const std::string& flavor) {
  return family(name).num_layers(flavor);
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Family& each : kFamilies) names.emplace_back(each.name);
  return names;
}

std::vector<std::string> model_flavors(const std::string& name) { return family(name).flavors(); }

std::string requested_mask_rule(const ModelRequest& request) {
  if (!request.mask.empty()) {
    try {
      check_mask_syntax(request.mask, request.mask_registry);
    } catch (const c10::Error& error) {
      TORCH_CHECK(false, "model.mask is '", request.mask, "': ", error.what_without_backtrace());
    }
    return request.mask;
  }
  if (request.attn_mask_type == "causal") return "causal";
  TORCH_CHECK(request.attn_mask_type == "block_causal", "model.attn_mask_type is '",
              request.attn_mask_type, "', expected causal or block_causal");
  return "causal & document";
}

}  // namespace tessera
