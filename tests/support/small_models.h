// The small Llamas that tests build.
#pragma once

#include <cstdint>

#include "models/llama3/llama3.h"

namespace tessera::testing {

struct SmallLlama {
  int64_t dim = 32;
  int64_t n_layers = 2;
  int64_t n_heads = 4;
  int64_t n_kv_heads = 2;
  int64_t head_dim = 8;
  int64_t ffn_dim = 48;
  int64_t vocab_size = 61;  // it does not divide, so that ranks get uneven parts
  bool tied = false;
};

inline Llama3Config small_llama(const SmallLlama& sizes = {}) {
  Llama3Config config;
  config.dim = sizes.dim;
  config.n_layers = sizes.n_layers;
  config.n_heads = sizes.n_heads;
  config.n_kv_heads = sizes.n_kv_heads;
  config.head_dim = sizes.head_dim;
  config.ffn_dim = sizes.ffn_dim;
  config.vocab_size = sizes.vocab_size;
  config.tied_embeddings = sizes.tied;
  return config;
}

// Its context is so short that all three regions of the RoPE scaling are met.
inline Llama3Config scaled_rope_llama() {
  Llama3Config config = small_llama({.n_layers = 3, .vocab_size = 64});
  config.flavor = "small";
  config.rope_theta = 100.0;
  config.rope_scaling = RopeScaling{.factor = 8, .original_max_position_embeddings = 128};
  config.max_seq_len = 256;
  return config;
}

// Its heads and layers suffice for eight ranks of any axis.
inline Llama3Config parity_llama() {
  Llama3Config config = small_llama({.n_layers = 4, .n_heads = 8, .n_kv_heads = 4, .head_dim = 4});
  config.flavor = "parity";
  config.rope_theta = 100.0;
  config.max_seq_len = 64;
  return config;
}

// It is so small that some ranks hold empty parts of its parameters.
inline Llama3Config checkpoint_llama(int64_t n_layers) {
  Llama3Config config = small_llama(
      {.dim = 16, .n_layers = n_layers, .head_dim = 4, .ffn_dim = 24, .vocab_size = 31});
  config.max_seq_len = 32;
  return config;
}

// The debug model, which job configurations name, but narrow and with grouped heads.
inline Llama3Config narrow_debugmodel(bool tied) {
  Llama3Config config = llama3_flavor("debugmodel");
  config.dim = 64;
  config.n_heads = 8;
  config.n_kv_heads = 4;
  config.head_dim = 8;
  config.ffn_dim = 96;
  config.tied_embeddings = tied;
  return config;
}

}  // namespace tessera::testing
