// Models by name and flavor, as `[model] name` and `flavor` choose them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"
#include "models/model.h"
#include "models/placement.h"

namespace tessera {

// What the trainer says of the model it wants; each field is a key of [model] or [training].
struct ModelRequest {
  std::string name = "llama3";
  std::string flavor = "debugmodel";
  std::string attention = "sdpa";  // by kind of layer, see attention/registry/attention_choice.h
  std::string attn_mask_type = "block_causal";  // or "causal"
  std::string mask = {};  // rule string; overrides attn_mask_type when not empty
  MaskRegistry mask_registry = MaskRegistry::with_builtins();  // what names in `mask` mean
  int64_t max_seq_len = 2048;
};

// A model on the meta device. Throws c10::Error that names the field and, for names, lists what
// there is.
std::unique_ptr<Model> make_model(const ModelRequest& request, const AttentionRegistry& attention,
                                  const ModelPlacement& placement = {});

int64_t model_num_layers(const std::string& name, const std::string& flavor);

std::vector<std::string> model_names();
std::vector<std::string> model_flavors(const std::string& name);

// For families: the rule that mask or attn_mask_type ask for ("causal", "causal & document"), its
// syntax checked.
std::string requested_mask_rule(const ModelRequest& request);

}  // namespace tessera
