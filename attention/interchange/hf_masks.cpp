#include "attention/interchange/hf_masks.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <limits>

#include "attention/masks/mask_node.h"

namespace tessera {

namespace {

void check_at_least(const char* caller, const char* what, int64_t value, int64_t lowest) {
  TORCH_CHECK(value >= lowest, caller, ": ", what, ": got ", value, ", expected at least ", lowest);
}

void check_tokens(const char* caller, const char* what, const at::Tensor& tensor_BT,
                  at::ScalarType dtype) {
  TORCH_CHECK(tensor_BT.defined(), caller, ": ", what, ": got no tensor, expected ", dtype,
              " of shape [B, T]");
  TORCH_CHECK(tensor_BT.dim() == 2 && tensor_BT.numel() > 0, caller, ": ", what, ": got shape ",
              tensor_BT.sizes(), ", expected [B, T]");
  TORCH_CHECK(tensor_BT.scalar_type() == dtype, caller, ": ", what, ": got dtype ",
              tensor_BT.scalar_type(), ", expected ", dtype);
  TORCH_CHECK(tensor_BT.device().is_cpu(), caller, ": ", what, ": got a tensor on ",
              tensor_BT.device(), ", expected the CPU");
}

void check_rows(const char* caller, const char* what, const at::Tensor& tensor_BT,
                at::ScalarType dtype, int64_t batch) {
  check_tokens(caller, what, tensor_BT, dtype);
  TORCH_CHECK(tensor_BT.size(0) == 1 || tensor_BT.size(0) == batch, caller, ": ", what, ": got ",
              tensor_BT.size(0), " rows, expected 1 or geometry.batch = ", batch);
}

// The first columns, padded on the right where there are fewer.
at::Tensor fitted(const at::Tensor& tensor_BT, int64_t num_tokens, int64_t value) {
  return at::constant_pad_nd(tensor_BT, {0, num_tokens - tensor_BT.size(1)}, value);
}

// The inputs of a builder, checked and made as wide as the tokens that its mask speaks of.
class Composer {
 public:
  Composer(const char* caller, const MaskInputs& inputs)
      : caller_(caller), inputs_(inputs), geometry_(inputs.geometry) {
    if (inputs.valid_BT.defined()) {
      check_rows(caller, "valid_BT", inputs.valid_BT, at::kBool, geometry_.batch);
    }
    kv_length_ = geometry_.kv_length.value_or(inputs.valid_BT.defined() ? inputs.valid_BT.size(1)
                                                                        : geometry_.q_length);
    check_geometry();
    const int64_t end_key = geometry_.kv_offset + kv_length_;
    num_tokens_ = std::max(geometry_.q_offset + geometry_.q_length, end_key);
    if (inputs.valid_BT.defined()) set_valid(end_key);
    if (inputs.document_ids_BT.defined()) set_documents();
    if (inputs.block_sequence_ids_BT.defined()) set_blocks();
  }

  // The rule of chunks that start after the left padding. Where documents are given, chunks start
  // in each document, which build() sees to.
  MaskMod chunks(int64_t size) const {
    const MaskMod rule = tessera::chunked(size);
    const bool shifted = left_padding_BT_.defined() && !document_ids_BT_.defined();
    return shifted ? per_document(rule, left_padding_BT_.to(at::kLong)) : rule;
  }

  // Builds the mask of the pattern with the inputs' rules. `limit`, if any, is and'ed on after the
  // blocks.
  BlockMask build(const MaskMod& pattern, const std::optional<MaskMod>& limit,
                  const CreateMaskFn& create_mask_fn) const {
    TORCH_CHECK(create_mask_fn, caller_, ": create_mask_fn: got no function");
    MaskMod rule = compose(pattern);
    if (limit) rule = rule & *limit;
    if (has_padding_) rule = rule & key_padding(valid_BT_);
    if (geometry_.q_offset != 0 || geometry_.kv_offset != 0) {
      rule = offset(rule, geometry_.q_offset, geometry_.kv_offset);
    }
    // Only a mask_fn does not say whether it asks for the batch row and the head.
    const bool opaque = rule.node().opaque();
    return create_mask_fn(rule, {.batch = opaque || rule.batch_size() > 1 ? geometry_.batch : 1,
                                 .heads = opaque || rule.num_heads() > 1 ? geometry_.heads : 1,
                                 .q_len = geometry_.q_length,
                                 .kv_len = kv_length_,
                                 .block = inputs_.block});
  }

 private:
  void check_geometry() const {
    check_at_least(caller_, "geometry.batch", geometry_.batch, 1);
    check_at_least(caller_, "geometry.heads", geometry_.heads, 1);
    check_at_least(caller_, "geometry.q_length", geometry_.q_length, 1);
    check_at_least(caller_, "geometry.kv_length", kv_length_, 1);
    check_at_least(caller_, "geometry.q_offset", geometry_.q_offset, 0);
    check_at_least(caller_, "geometry.kv_offset", geometry_.kv_offset, 0);
  }

  void set_valid(int64_t end_key) {
    valid_BT_ = fitted(inputs_.valid_BT, num_tokens_, 0);
    has_padding_ = !valid_BT_.slice(1, geometry_.kv_offset, end_key).all().item<bool>();
    const at::Tensor before_first_BT = valid_BT_.cumsum(1).eq(0);
    if (before_first_BT.any().item<bool>()) left_padding_BT_ = before_first_BT;
  }

  // The left padding and the tokens beyond the last document become documents of their own, so that
  // counting starts at the first token of text.
  void set_documents() {
    constexpr int64_t kLeftPadding = std::numeric_limits<int64_t>::min();
    constexpr int64_t kNoDocument = std::numeric_limits<int64_t>::max();
    const at::Tensor& ids_BT = inputs_.document_ids_BT;
    check_rows(caller_, "document_ids_BT", ids_BT, at::kLong, geometry_.batch);
    TORCH_CHECK(ids_BT.size(1) >= geometry_.q_offset + geometry_.q_length, caller_,
                ": document_ids_BT: got ids of ", ids_BT.size(1),
                " tokens, expected them for all queries, which end at token ",
                geometry_.q_offset + geometry_.q_length);
    TORCH_CHECK(
        ids_BT.min().item<int64_t>() > kLeftPadding && ids_BT.max().item<int64_t>() < kNoDocument,
        caller_,
        ": document_ids_BT: got the smallest or largest int64, expected ids "
        "between them");
    document_ids_BT_ = fitted(ids_BT, num_tokens_, kNoDocument);
    if (left_padding_BT_.defined()) {
      document_ids_BT_ = document_ids_BT_.masked_fill(left_padding_BT_, kLeftPadding);
    }
  }

  void set_blocks() {
    const at::Tensor& ids_BT = inputs_.block_sequence_ids_BT;
    check_rows(caller_, "block_sequence_ids_BT", ids_BT, at::kLong, geometry_.batch);
    block_ids_BT_ = fitted(ids_BT, num_tokens_, -1);
  }

  MaskMod compose(const MaskMod& pattern) const {
    MaskMod rule = pattern;
    if (inputs_.or_mask) rule = rule | *inputs_.or_mask;
    if (inputs_.and_mask) rule = rule & *inputs_.and_mask;
    if (document_ids_BT_.defined()) rule = per_document(rule, document_ids_BT_);
    if (block_ids_BT_.defined()) {
      const MaskMod blocks = block_ids(block_ids_BT_);
      rule = rule | (document_ids_BT_.defined() ? document(document_ids_BT_) & blocks : blocks);
    }
    return rule;
  }

  const char* caller_;
  const MaskInputs& inputs_;
  MaskGeometry geometry_;
  int64_t kv_length_ = 0;
  int64_t num_tokens_ = 0;
  bool has_padding_ = false;
  at::Tensor valid_BT_{};
  at::Tensor left_padding_BT_{};  // where each row has no valid token yet; undefined if nowhere
  at::Tensor document_ids_BT_{};
  at::Tensor block_ids_BT_{};
};

int64_t required(const char* caller, const char* what, const std::optional<int64_t>& value,
                 int64_t lowest) {
  TORCH_CHECK(value, caller, ": config.", what, ": got nothing, expected a number");
  check_at_least(caller, c10::str("config.", what).c_str(), *value, lowest);
  return *value;
}

BlockMask sliding_mask(const char* caller, const MaskMod& pattern, const Window& window,
                       const MaskInputs& inputs, const CreateMaskFn& create_mask_fn) {
  const Composer composer(caller, inputs);
  if (inputs.blocks_within_window) {
    return composer.build(pattern, sliding_window(window), create_mask_fn);
  }
  return composer.build(pattern & sliding_window(window), std::nullopt, create_mask_fn);
}

enum class LayerPattern { kNone, kFull, kSliding, kChunked };

struct LayerType {
  const char* name;
  LayerPattern pattern;
  bool is_recurrent = false;
};

// The names of LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING in transformers.masking_utils and the older
// names of configuration_utils. hybrid_sliding keeps its window here, which the mapping drops.
constexpr LayerType kLayerTypes[] = {
    {"full_attention", LayerPattern::kFull},
    {"sliding_attention", LayerPattern::kSliding},
    {"chunked_attention", LayerPattern::kChunked},
    {"compressed_sparse_attention", LayerPattern::kSliding},
    {"heavily_compressed_attention", LayerPattern::kSliding},
    {"minimax_m3_sparse", LayerPattern::kFull},
    {"indexed_attention", LayerPattern::kFull},
    {"linear_attention", LayerPattern::kNone, true},
    {"conv", LayerPattern::kNone, true},
    {"hybrid", LayerPattern::kFull, true},
    {"hybrid_sliding", LayerPattern::kSliding, true},
    {"attention", LayerPattern::kFull},
    {"deepseek_sparse_attention", LayerPattern::kFull},
    {"qwen_sparse_attention", LayerPattern::kFull},
    {"mamba", LayerPattern::kNone, true},
};

const LayerType& layer_type(const std::string& name) {
  std::vector<std::string> names;
  for (const LayerType& type : kLayerTypes) {
    if (name == type.name) return type;
    names.emplace_back(type.name);
  }
  C10_THROW_ERROR(
      Error, c10::str("layer type: got \"", name, "\", expected one of: ", c10::Join(", ", names)));
}

// The mask of one layer, from `config` with the layer's own size and `inputs` with the sizes of its
// cache.
BlockMask layer_mask(MaskConfig config, const LayerMaskRule& layer, MaskInputs inputs,
                     const std::optional<CacheState>& cache, const CreateMaskFn& create_mask_fn) {
  const LayerPattern pattern = layer_type(layer.type).pattern;
  const bool is_sliding = pattern == LayerPattern::kSliding;
  std::optional<int64_t>& size = is_sliding ? config.sliding_window : config.attention_chunk_size;
  if (layer.size) size = layer.size;
  if (cache) {
    const bool keeps_all = pattern == LayerPattern::kFull;
    const CacheSizes sizes =
        cache_sizes(*cache, keeps_all ? std::nullopt : size, inputs.geometry.q_length);
    inputs.geometry.kv_length = sizes.kv_length;
    inputs.geometry.kv_offset = sizes.kv_offset;
    inputs.geometry.q_offset = sizes.q_offset;
  }
  if (pattern == LayerPattern::kFull) return causal_mask(config, inputs, create_mask_fn);
  return is_sliding ? sliding_window_causal_mask(config, inputs, create_mask_fn)
                    : chunked_causal_mask(config, inputs, create_mask_fn);
}

}  // namespace

BlockMask causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                      const CreateMaskFn& create_mask_fn) {
  if (!config.is_causal) return bidirectional_mask(config, inputs, create_mask_fn);
  return Composer("causal_mask", inputs).build(causal(), std::nullopt, create_mask_fn);
}

BlockMask sliding_window_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                                     const CreateMaskFn& create_mask_fn) {
  if (!config.is_causal) return bidirectional_sliding_window_mask(config, inputs, create_mask_fn);
  const char* caller = "sliding_window_causal_mask";
  const int64_t size = required(caller, "sliding_window", config.sliding_window, 1);
  return sliding_mask(caller, causal(), {.left = size - 1}, inputs, create_mask_fn);
}

BlockMask chunked_causal_mask(const MaskConfig& config, const MaskInputs& inputs,
                              const CreateMaskFn& create_mask_fn) {
  const char* caller = "chunked_causal_mask";
  TORCH_CHECK(config.is_causal, caller,
              ": config.is_causal: got false, expected true: there is no bidirectional form");
  const int64_t size = required(caller, "attention_chunk_size", config.attention_chunk_size, 1);
  const Composer composer(caller, inputs);
  return composer.build(causal() & composer.chunks(size), std::nullopt, create_mask_fn);
}

BlockMask bidirectional_mask(const MaskConfig&, const MaskInputs& inputs,
                             const CreateMaskFn& create_mask_fn) {
  return Composer("bidirectional_mask", inputs).build(full(), std::nullopt, create_mask_fn);
}

BlockMask bidirectional_sliding_window_mask(const MaskConfig& config, const MaskInputs& inputs,
                                            const CreateMaskFn& create_mask_fn) {
  const char* caller = "bidirectional_sliding_window_mask";
  const int64_t size = required(caller, "sliding_window", config.sliding_window, 0);
  return sliding_mask(caller, full(), {.left = size, .right = size}, inputs, create_mask_fn);
}

at::Tensor recurrent_mask(const MaskInputs& inputs) {
  const char* caller = "recurrent_mask";
  const int64_t batch = inputs.geometry.batch;
  const int64_t q_length = inputs.geometry.q_length;
  check_at_least(caller, "geometry.batch", batch, 1);
  check_at_least(caller, "geometry.q_length", q_length, 1);
  if (!inputs.valid_BT.defined()) return at::ones({batch, q_length}, at::kBool);
  check_rows(caller, "valid_BT", inputs.valid_BT, at::kBool, batch);
  const int64_t width = inputs.valid_BT.size(1);
  TORCH_CHECK(width >= q_length, caller, ": valid_BT: got ", width,
              " columns, expected at least geometry.q_length = ", q_length);
  return inputs.valid_BT.slice(1, width - q_length, width).expand({batch, q_length}).contiguous();
}

at::Tensor document_ids_from_positions(const at::Tensor& positions_BT) {
  check_tokens("document_ids_from_positions", "positions_BT", positions_BT, at::kLong);
  const at::Tensor rows_BT = positions_BT.contiguous();
  at::Tensor ids_BT = at::empty_like(rows_BT);
  const int64_t num_tokens = rows_BT.size(1);
  for (int64_t b = 0; b < rows_BT.size(0); ++b) {
    const int64_t* positions = rows_BT.const_data_ptr<int64_t>() + b * num_tokens;
    int64_t* ids = ids_BT.mutable_data_ptr<int64_t>() + b * num_tokens;
    ids[0] = 0;
    for (int64_t t = 1; t < num_tokens; ++t) {
      ids[t] = ids[t - 1] + (positions[t] == positions[t - 1] + 1 ? 0 : 1);
    }
  }
  return ids_BT;
}

at::Tensor image_block_ids(const at::Tensor& token_types_BT,
                           const std::vector<int64_t>& image_types) {
  check_tokens("image_block_ids", "token_types_BT", token_types_BT, at::kLong);
  TORCH_CHECK(!image_types.empty(), "image_block_ids: image_types: got none");
  at::Tensor is_image_BT = token_types_BT.eq(image_types.front());
  for (const int64_t type : image_types)
    is_image_BT = is_image_BT.logical_or(token_types_BT.eq(type));
  const at::Tensor previous_BT =
      at::constant_pad_nd(is_image_BT, {1, 0}, 0).slice(1, 0, is_image_BT.size(1));
  const at::Tensor starts_BT = is_image_BT.logical_and(previous_BT.logical_not());
  return starts_BT.cumsum(1).sub(1).masked_fill(is_image_BT.logical_not(), -1);
}

at::Tensor prefix_block_ids(const at::Tensor& token_types_BT) {
  check_tokens("prefix_block_ids", "token_types_BT", token_types_BT, at::kLong);
  return token_types_BT.ne(0).to(at::kLong).neg();
}

std::vector<LayerMaskRule> layer_mask_rules(const MaskConfig& config) {
  if (config.layer_types.empty()) {
    const bool is_sliding = config.sliding_window.has_value();
    const bool is_chunked = config.attention_chunk_size.has_value();
    return {{.type = is_sliding   ? "sliding_attention"
                     : is_chunked ? "chunked_attention"
                                  : "full_attention"}};
  }
  std::vector<LayerMaskRule> layers;
  for (const std::string& type : config.layer_types) layers.push_back({.type = type});
  return layers;
}

std::string layer_mask_name(const MaskConfig& config, const LayerMaskRule& layer) {
  const LayerPattern pattern = layer_type(layer.type).pattern;
  const bool has_size = pattern == LayerPattern::kSliding || pattern == LayerPattern::kChunked;
  TORCH_CHECK(has_size || !layer.size, "layer of type \"", layer.type, "\": size: got ",
              layer.size.value_or(0), ", expected nothing");
  if (pattern == LayerPattern::kNone) return "";
  if (pattern == LayerPattern::kFull) return "full_attention";
  const bool is_sliding = pattern == LayerPattern::kSliding;
  const std::string name = is_sliding ? "sliding_attention" : "chunked_attention";
  const std::optional<int64_t>& usual =
      is_sliding ? config.sliding_window : config.attention_chunk_size;
  const bool is_usual = !layer.size || layer.size == usual;
  return is_usual ? name : c10::str(name, "_", *layer.size);
}

LayerMasks layer_masks(const MaskConfig& config, const std::vector<LayerMaskRule>& layers,
                       const MaskInputs& inputs, const std::optional<CacheState>& cache,
                       const CreateMaskFn& create_mask_fn) {
  TORCH_CHECK(!layers.empty(), "layer_masks: layers: got none, expected at least one");
  LayerMasks masks;
  for (const LayerMaskRule& layer : layers) {
    const LayerType& type = layer_type(layer.type);
    if (type.is_recurrent && !masks.recurrent.defined()) masks.recurrent = recurrent_mask(inputs);
    const std::string name = layer_mask_name(config, layer);
    if (type.pattern == LayerPattern::kNone || masks.attention.contains(name)) continue;
    masks.attention.insert(name, layer_mask(config, layer, inputs, cache, create_mask_fn));
  }
  return masks;
}

CacheSizes cache_sizes(const CacheState& cache, std::optional<int64_t> window, int64_t q_length) {
  const char* caller = "cache_sizes";
  check_at_least(caller, "num_seen", cache.num_seen, 0);
  check_at_least(caller, "q_length", q_length, 1);
  if (window) check_at_least(caller, "window", *window, 1);
  const bool is_static = cache.kind == CacheKind::kStatic;
  TORCH_CHECK(is_static == cache.max_length.has_value(), caller, ": max_length: got ",
              cache.max_length ? "a number" : "nothing", ", expected it for a static cache only");
  const int64_t end = cache.num_seen + q_length;
  const int64_t max_length = cache.max_length.value_or(end);
  // A static window that fits is a ring, which never runs full.
  TORCH_CHECK(end <= max_length || (window && *window <= max_length), caller, ": max_length: got ",
              max_length, ", expected room for ", end, " tokens");
  if (!window) return {.kv_length = max_length, .q_offset = cache.num_seen};
  const int64_t kept = is_static ? std::min(*window, max_length) : *window;
  const int64_t first_kept = std::max<int64_t>(cache.num_seen - kept + 1, 0);
  const int64_t unfilled_end = is_static ? kept : 0;
  return {.kv_length = std::max(end - first_kept, unfilled_end),
          .kv_offset = first_kept,
          .q_offset = cache.num_seen};
}

}  // namespace tessera
