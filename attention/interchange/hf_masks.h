// The mask builders of transformers.masking_utils (5.23), by their names, on rules and block masks.
//
//   MaskInputs inputs{.geometry = {.batch = B, .q_length = T}};
//   inputs.document_ids_BT = document_ids_from_positions(positions_BT);
//   BlockMask mask = sliding_window_causal_mask(config, inputs);
//
// Every builder composes one rule in absolute token indices, in this order: the pattern, or'ed with
// `or_mask`, and'ed with `and_mask`, all three per document; or'ed with the blocks, which stay
// inside their document; and'ed with the valid keys. Where Hugging Face returns None, the mask here
// is exact and says is_full() or is_causal().
//
// The builders differ from Hugging Face's on purpose in this:
//   - documents are an input, never guessed from positions, and hold in every pattern, beside a
//     padding mask, with a cache and when config.is_causal is false;
//   - documents count from their first token, whatever its position id is;
//   - no block reaches into another document;
//   - 4D masks, integer masks and unknown layer types are refused.
//
// All functions throw c10::Error that names the field, its value and the expected one.
//
// Shape legend: B batch rows (or 1: the same for all), T tokens from the start of the sequence,
// cached tokens included. Tensors are on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention/block_mask/attention_masks.h"
#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_config.h"
#include "attention/masks/mask_mod.h"

namespace tessera {

// The place of a mask in the sequence, in tokens: query row i is token q_offset + i, key j is token
// kv_offset + j.
struct MaskGeometry {
  int64_t batch = 1;
  int64_t heads = 1;  // more only for an or_mask or and_mask that asks for the head
  int64_t q_length = 0;
  std::optional<int64_t> kv_length{};  // nothing: the width of valid_BT, else q_length
  int64_t q_offset = 0;
  int64_t kv_offset = 0;
};

// The inputs of a builder; undefined tensors are not used.
struct MaskInputs {
  MaskGeometry geometry{};
  BlockSize block{};

  // bool: which keys are tokens and no padding. Keys beyond T are padding. Chunks start after the
  // left padding.
  at::Tensor valid_BT{};

  // int64: the document of each token. Tokens of one id are adjacent, and T covers all queries.
  // Keys beyond T are in no document.
  at::Tensor document_ids_BT{};

  // int64: the block of each token, negative for none; tokens beyond T are in none. Tokens of one
  // block see each other, in either direction.
  at::Tensor block_sequence_ids_BT{};

  // In sliding layers, true builds (causal | block) & window, as in Gemma 3, and false builds
  // (causal & window) | block.
  bool blocks_within_window = false;

  // Further rules. Their indices count from the start of the document where documents are given,
  // and else are absolute.
  std::optional<MaskMod> or_mask{};
  std::optional<MaskMod> and_mask{};
};

// The builders, by the pattern that they start from. W = config.sliding_window and
// C = config.attention_chunk_size, in tokens, must be set where they are used. create_mask_fn
// builds the mask of the composed rule; models pass the one that they are given (models/model.h).

// The pattern kv <= q. With config.is_causal == false this is bidirectional_mask.
BlockMask causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                      const CreateMaskFn& create_mask_fn = create_block_mask);

// Causal with W keys: the query's own token and W - 1 tokens before it. With config.is_causal ==
// false this is bidirectional_sliding_window_mask.
BlockMask sliding_window_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                                     const CreateMaskFn& create_mask_fn = create_block_mask);

// Causal within chunks of C tokens. A bidirectional form does not exist: config.is_causal == false
// is refused.
BlockMask chunked_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                              const CreateMaskFn& create_mask_fn = create_block_mask);

// Every pair.
BlockMask bidirectional_mask(const MaskConfig& config, const MaskInputs& inputs,
                             const CreateMaskFn& create_mask_fn = create_block_mask);

// 2 W + 1 keys: the query's own token and W tokens on either side. The causal window with the same
// W reaches one token less to the left.
BlockMask bidirectional_sliding_window_mask(const MaskConfig& config, const MaskInputs& inputs,
                                            const CreateMaskFn& create_mask_fn = create_block_mask);

// The mask of linear-attention and convolution layers, bool [batch, q_length]: the last q_length
// columns of valid_BT, or all true where that is undefined.
at::Tensor recurrent_mask(const MaskInputs& inputs);

// Document ids from position ids, int64 [B, T] to int64 [B, T]: a document begins wherever a
// position is not the position before it plus 1.
at::Tensor document_ids_from_positions(const at::Tensor& positions_BT);

// Block ids from token types, int64 [B, T] to int64 [B, T]. Each run of tokens whose types are in
// image_types (Gemma 3: 1, Gemma 4: 1 and 2) is a block of its own; all other tokens are in none.
at::Tensor image_block_ids(const at::Tensor& token_types_BT,
                           const std::vector<int64_t>& image_types = {1});

// Block ids from the token types of PaliGemma, int64 [B, T] to int64 [B, T]: the tokens of type 0,
// the prefix, are one block, and all others are in none.
at::Tensor prefix_block_ids(const at::Tensor& token_types_BT);

// kDynamic caches grow with each update; kStatic ones have max_length places from the start.
enum class CacheKind { kDynamic, kStatic };

// A key/value cache before an update, in tokens.
struct CacheState {
  CacheKind kind = CacheKind::kDynamic;
  int64_t num_seen = 0;                 // tokens of earlier updates
  std::optional<int64_t> max_length{};  // set for kStatic, and only there
};

// The keys that a layer's cache shows to the queries of an update, in terms of MaskGeometry.
struct CacheSizes {
  int64_t kv_length = 0;  // also the number of keys that the layer returns
  int64_t kv_offset = 0;
  int64_t q_offset = 0;
  bool operator==(const CacheSizes&) const = default;
};

// The sizes for an update of q_length tokens. window: W of a sliding layer or C of a chunked one,
// which keep the last tokens only; nothing for a layer that keeps all. A static layer shows its
// unfilled tail too. Throws for a static cache without room, save where its window is a ring: a
// window of at most max_length tokens never runs full.
CacheSizes cache_sizes(const CacheState& cache, std::optional<int64_t> window, int64_t q_length);

// The mask that one layer asks for.
struct LayerMaskRule {
  std::string type = "full_attention";  // a name of config.layer_types
  std::optional<int64_t> size{};        // the layer's own W or C; nothing: the config's
};

// The layers of a config, by its layer_types. Without layer_types the result is one layer: sliding
// where config.sliding_window is set, else chunked where attention_chunk_size is, else full.
std::vector<LayerMaskRule> layer_mask_rules(const MaskConfig& config);

// The name under which layer_masks files a layer's mask: "full_attention", "sliding_attention" or
// "chunked_attention", the latter two with "_<size>" when the size is not the config's. Layers of
// one rule share a name. The name is empty for a layer that is recurrent only.
std::string layer_mask_name(const MaskConfig& config, const LayerMaskRule& layer);

// The masks of a model's layers: attention masks by layer_mask_name, and recurrent_mask.
struct LayerMasks {
  AttentionMasks attention{};
  at::Tensor recurrent{};  // bool [batch, q_length]; undefined when no layer is recurrent
};

// Builds one mask per distinct rule of `layers`. With a cache, each mask has its own kv_length and
// offsets, and those of inputs.geometry are ignored.
LayerMasks layer_masks(const MaskConfig& config, const std::vector<LayerMaskRule>& layers,
                       const MaskInputs& inputs, const std::optional<CacheState>& cache = {},
                       const CreateMaskFn& create_mask_fn = create_block_mask);

}  // namespace tessera
