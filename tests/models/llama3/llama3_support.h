// A Llama with initial values, and packed batches, for tests.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <memory>
#include <random>
#include <vector>

#include "attention/registry/registry.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "models/llama3/llama3.h"
#include "tests/support/flat_parameters.h"
#include "tests/support/small_models.h"

namespace tessera::testing {

// A model with these attention backends, materialised in `dtype` and initialised from seed 1.
inline std::unique_ptr<Llama3> make_llama3(const Llama3Config& config, const std::string& attention,
                                           at::ScalarType dtype) {
  const AttentionRegistry registry = AttentionRegistry::with_builtins();
  auto model = std::make_unique<Llama3>(config, registry.make(attention));
  bind_flat(model->parameters(), dtype);
  initialize_parameters(*model, 1);
  return model;
}

// A batch whose row b has documents of lengths[b], equally many tokens in all, with random tokens;
// labels are the next tokens of the same document.
inline Batch packed_batch(const std::vector<std::vector<int64_t>>& lengths, int64_t vocab_size,
                          uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<int64_t> tokens, labels, positions, documents;
  for (const std::vector<int64_t>& row : lengths) {
    for (size_t d = 0; d < row.size(); ++d) {
      for (int64_t i = 0; i < row[d]; ++i) {
        tokens.push_back(static_cast<int64_t>(random() % static_cast<uint32_t>(vocab_size)));
        if (i > 0) labels.back() = tokens.back();
        labels.push_back(kIgnoreLabel);
        positions.push_back(i);
        documents.push_back(static_cast<int64_t>(d));
      }
    }
  }
  const auto rows = static_cast<int64_t>(lengths.size());
  const auto shaped = [rows](const std::vector<int64_t>& values) {
    return at::tensor(values).view({rows, -1});
  };
  return {shaped(tokens), shaped(labels), shaped(positions), shaped(documents)};
}

// The model's masks for a batch without extras, and the logits [B, T, V] with these masks.
inline AttentionMasks masks_of(const Model& model, const Batch& batch) {
  return model.get_attention_masks(create_block_mask, batch, ByteTokenizer(), Extras());
}

inline at::Tensor logits_of(Model& model, const Batch& batch) {
  return model.forward(batch.tokens_BT, masks_of(model, batch),
                       {.positions_BT = batch.positions_BT});
}

}  // namespace tessera::testing
