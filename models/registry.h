// Models by name and flavor, as `[model] name` and `flavor` choose them.
//
//   std::unique_ptr<Model> model = make_model({.name = "llama3", .flavor = "8B"},
//                                             AttentionRegistry::with_builtins());
//
// A family is one line of the table in models/registry.cpp; models/README.md tells how to add one.
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

// The model that the trainer wants; each field is a key of [model] or [training].
struct ModelRequest {
  std::string name = "llama3";
  std::string flavor = "debugmodel";
  std::string attention = "sdpa";  // by kind of layer, see attention/registry/attention_choice.h
  std::string attn_mask_type = "block_causal";  // or "causal"
  std::string mask = {};  // rule string; overrides attn_mask_type when not empty
  MaskRegistry mask_registry = MaskRegistry::with_builtins();  // what names in `mask` mean
  int64_t max_seq_len = 2048;                                  // tokens of the longest row
};

// A model on the meta device. Throws c10::Error that names the field and, for names, lists the
// choices; and whatever the family's constructor refuses (models/llama3/llama3.h).
std::unique_ptr<Model> make_model(const ModelRequest& request, const AttentionRegistry& attention,
                                  const ModelPlacement& placement = {});

// Transformer layers of a flavor, without building it. Throws c10::Error that lists the choices for
// an unknown name or flavor; model_flavors does so for an unknown name.
int64_t model_num_layers(const std::string& name, const std::string& flavor);

std::vector<std::string> model_names();
std::vector<std::string> model_flavors(const std::string& name);

// For families: the rule that mask or attn_mask_type ask for ("causal", "causal & document"), its
// syntax checked. Throws c10::Error naming model.mask or model.attn_mask_type and its value.
std::string requested_mask_rule(const ModelRequest& request);

}  // namespace tessera
