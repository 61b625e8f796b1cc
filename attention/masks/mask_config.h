// MaskConfig: what a model's configuration says of its masks, in Hugging Face's terms.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

struct MaskConfig {
  bool is_causal = true;
  std::optional<int64_t> sliding_window{};        // W of config.json: a causal query sees W keys
  std::optional<int64_t> attention_chunk_size{};  // C of config.json
  std::vector<std::string> layer_types{};         // "full_attention", "sliding_attention", ...
};

}  // namespace tessera
