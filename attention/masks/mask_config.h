// MaskConfig: the fields of a model's configuration that decide its masks, named as in Hugging
// Face's config.json. The builders of attention/interchange/hf_masks.h and the mask forms of
// attention/registry/mask_registry.h read it, and check what they use of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

struct MaskConfig {
  bool is_causal = true;
  std::optional<int64_t> sliding_window{};        // W tokens: a causal query sees W keys
  std::optional<int64_t> attention_chunk_size{};  // C tokens
  std::vector<std::string> layer_types{};         // by layer: "full_attention", ...; may be empty
};

}  // namespace tessera
