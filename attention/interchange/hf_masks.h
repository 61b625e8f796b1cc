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
// What differs on purpose: documents are an input, never guessed from positions, and hold in every
// pattern, beside a padding mask, with a cache and when config.is_causal is false; they count from
// their first token whatever its position id is; no block reaches into another document; 4D masks,
// integer masks and unknown layer types are refused.
//
// All functions throw c10::Error that names the field, what it was and what is expected.
//
// Shape legend: B batch rows (or 1: the same for all), T tokens from the start of the sequence,
// those in a cache included. Tensors are on the CPU.
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

// Query row i is token q_offset + i, key j is token kv_offset + j.
struct MaskGeometry {
  int64_t batch = 1;
  int64_t heads = 1;  // more only for an or_mask or and_mask that asks for the head
  int64_t q_length = 0;
  std::optional<int64_t> kv_length{};  // nothing: the width of valid_BT, else q_length
  int64_t q_offset = 0;
  int64_t kv_offset = 0;
};

struct MaskInputs {
  MaskGeometry geometry{};
  BlockSize block{};

  // bool, which keys are tokens. Keys beyond T are padding. Chunks start after the left padding.
  at::Tensor valid_BT{};

  // int64, of adjacent tokens; T covers all queries. Keys beyond T are in no document.
  at::Tensor document_ids_BT{};

  // int64, negative for none (also beyond T). Tokens of one block see each other, in any order.
  at::Tensor block_sequence_ids_BT{};

  // Sliding layers: (causal | block) & window, as in Gemma 3, instead of (causal & window) | block.
  bool blocks_within_window = false;

  // They count from the start of the document where documents are given, else in absolute indices.
  std::optional<MaskMod> or_mask{};
  std::optional<MaskMod> and_mask{};
};

// With config.is_causal == false the first two are the bidirectional ones; a chunked mask has no
// such form and is refused. W = config.sliding_window and C = config.attention_chunk_size must be
// there where they are used. `create_mask_fn` as in models/model.h.
BlockMask causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                      const CreateMaskFn& create_mask_fn = create_block_mask);

// W keys: the query's own token and W - 1 before it.
BlockMask sliding_window_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                                     const CreateMaskFn& create_mask_fn = create_block_mask);

BlockMask chunked_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                              const CreateMaskFn& create_mask_fn = create_block_mask);

BlockMask bidirectional_mask(const MaskConfig& config, const MaskInputs& inputs,
                             const CreateMaskFn& create_mask_fn = create_block_mask);

// 2W + 1 keys: W on either side, unlike in the causal window.
BlockMask bidirectional_sliding_window_mask(const MaskConfig& config, const MaskInputs& inputs,
                                            const CreateMaskFn& create_mask_fn = create_block_mask);

// The mask of linear-attention and convolution layers: the last q_length columns of valid_BT, all
// true without one. bool [batch, q_length].
at::Tensor recurrent_mask(const MaskInputs& inputs);

// A document begins wherever a position is not the one before plus 1. int64 [B, T] to int64 [B, T].
at::Tensor document_ids_from_positions(const at::Tensor& positions_BT);

// Block ids from token types, int64 [B, T] to int64 [B, T]. Images (Gemma 3: type 1, Gemma 4: types
// 1 and 2): a new block at each first token of such a type, -1 elsewhere. Prefix (PaliGemma): one
// block of all tokens of type 0, whose suffix has type 1.
at::Tensor image_block_ids(const at::Tensor& token_types_BT,
                           const std::vector<int64_t>& image_types = {1});
at::Tensor prefix_block_ids(const at::Tensor& token_types_BT);

// A key/value cache before an update, and what its layers show to a query of q_length tokens.
enum class CacheKind { kDynamic, kStatic };

struct CacheState {
  CacheKind kind = CacheKind::kDynamic;
  int64_t num_seen = 0;                 // tokens of earlier updates
  std::optional<int64_t> max_length{};  // kStatic
};

struct CacheSizes {
  int64_t kv_length = 0;  // also the number of keys that the layer returns
  int64_t kv_offset = 0;
  int64_t q_offset = 0;
  bool operator==(const CacheSizes&) const = default;
};

// `window`: W of a sliding layer or C of a chunked one, which keep the last tokens only; nothing
// for a layer that keeps all. A static layer shows its unfilled tail too.
CacheSizes cache_sizes(const CacheState& cache, std::optional<int64_t> window, int64_t q_length);

// What one layer asks for: a name of config.layer_types and its own W or C where that is not the
// config's.
struct LayerMaskRule {
  std::string type = "full_attention";
  std::optional<int64_t> size{};
};

// The config's layers; without layer_types one layer that is sliding, chunked or full by what is
// set.
std::vector<LayerMaskRule> layer_mask_rules(const MaskConfig& config);

// Where layer_masks files a layer's mask: "full_attention", "sliding_attention",
// "chunked_attention", the latter two with "_<size>" when it is not the config's. Layers of one
// rule share a name. Empty for a layer that is recurrent only.
std::string layer_mask_name(const MaskConfig& config, const LayerMaskRule& layer);

struct LayerMasks {
  AttentionMasks attention{};
  at::Tensor recurrent{};  // bool [batch, q_length]; undefined when no layer is recurrent
};

// One mask per distinct rule. With a cache, each has its own kv_length and offsets, and those of
// inputs.geometry are not looked at.
LayerMasks layer_masks(const MaskConfig& config, const std::vector<LayerMaskRule>& layers,
                       const MaskInputs& inputs, const std::optional<CacheState>& cache = {},
                       const CreateMaskFn& create_mask_fn = create_block_mask);

}  // namespace tessera
