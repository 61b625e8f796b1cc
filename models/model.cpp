#include "models/model.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

#include "attention/registry/registry.h"
#include "models/init/init.h"

namespace tessera {

std::vector<ParameterSlot> Model::parameters() {
  std::vector<ParameterSlot> slots;
  for (const Block* block : blocks()) {
    slots.insert(slots.end(), block->slots.begin(), block->slots.end());
  }
  return slots;
}

int64_t Model::num_parameters() {
  int64_t count = 0;
  for (const ParameterSlot& slot : parameters()) {
    count += c10::multiply_integers(slot.whole_shape());
  }
  return count;
}

void initialize_parameters(Model& model, uint64_t seed) {
  for (const ParameterSlot& slot : model.parameters()) {
    initialize(*slot.tensor, slot.init, seed, slot.name);
  }
}

void set_attention(Model& model, const AttentionRegistry& registry, const std::string& choices) {
  const std::vector<AttentionSite> sites = model.attention_sites();
  TORCH_CHECK(!sites.empty(), "set_attention: ", model.description(),
              " lists no place where it attends");
  std::vector<std::string> kinds;
  for (const AttentionSite& site : sites) {
    const bool is_new = std::find(kinds.begin(), kinds.end(), site.kind) == kinds.end();
    if (is_new) kinds.push_back(site.kind);
  }
  const std::map<std::string, AttentionOp> ops = registry.make_kinds(choices, kinds);
  for (const AttentionSite& site : sites) {
    const AttentionOp& op = ops.at(site.kind);
    TORCH_CHECK(op.mask_form() == site.op->mask_form(), "set_attention: mask form of \"", op.name(),
                "\": got \"", op.mask_form(), "\", expected \"", site.op->mask_form(),
                "\", in which this model's masks are built for \"", site.op->name(), "\"");
  }
  for (const AttentionSite& site : sites) *site.op = ops.at(site.kind);
}

}  // namespace tessera
