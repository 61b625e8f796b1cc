// The builders against transformers.masking_utils 5.23; see tests/golden/attention/README.md.
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "attention/interchange/hf_masks.h"
#include "tests/attention/block_mask/oracle_rules.h"
#include "tests/attention/interchange/hf_mask_cases.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/golden_tensors.h"

namespace tessera {
namespace {

using nlohmann::json;
using testing::golden;
using testing::GoldenTensors;
using testing::oracle_rule;
using testing::read_json;
using testing::rows;
using testing::rows_tensor;

// A deliberate difference from Hugging Face: its reason, and the rows of Tessera's mask, which are
// empty where that is Hugging Face's mask within the documents.
struct Difference {
  const char* why;
  const char* expected = "";
};

const std::map<std::string, Difference>& differences() {
  static const char* const kNoPacking = "HF: documents are dropped in bidirectional masks";
  static const char* const kSwitchedOff = "HF: a mask or a cache turns packing off";
  static const char* const kPosition = "HF: chunks count from the position id of the first token";
  static const char* const kLeak = "HF: a block reaches into other documents";
  static const std::map<std::string, Difference> kDifferences = {
      {"causal_is_causal_false", {kNoPacking}},
      {"sliding_window_causal_is_causal_false", {kNoPacking}},
      {"packed_bidirectional", {kNoPacking}},
      {"causal_mask_turns_packing_off", {kSwitchedOff}},
      {"cache_packed_ignored", {kSwitchedOff}},
      {"packed_positions_start3_chunk2", {kPosition, "10000 11000 00100 00010 00011"}},
      {"packed_positions_restart_high_chunk2", {kPosition, "10000 11000 00100 00110 00001"}},
      {"blocks_two_documents_leak", {kLeak}},
      {"random_027", {kLeak}},
      {"random_070", {kLeak}},
      {"random_086", {kLeak}},
      {"random_087", {kLeak}},
      {"random_103", {kLeak}},
      {"gemma3_images_packed/sliding_attention",
       {"HF: block ids are looked up at document positions",
        "10000000 11100000 11100000 01110000 00001000 00001100 00001111 00000111"}},
  };
  return kDifferences;
}

std::optional<int64_t> optional_number(const json& object, const char* key) {
  return object.contains(key) && !object[key].is_null() ? std::optional(object[key].get<int64_t>())
                                                        : std::nullopt;
}

MaskConfig config_of(const json& config) {
  return {.is_causal = config.value("is_causal", true),
          .sliding_window = optional_number(config, "sliding_window"),
          .attention_chunk_size = optional_number(config, "attention_chunk_size"),
          .layer_types = config.value("layer_types", std::vector<std::string>{})};
}

// The number of tokens that the cache of a layer of the case's kind keeps; nothing: all.
std::optional<int64_t> cache_window(const json& c, const MaskConfig& config) {
  if (c["creator"] == "sliding_window_causal") return config.sliding_window;
  if (c["creator"] == "chunked_causal") return config.attention_chunk_size;
  return std::nullopt;
}

CacheState cache_of(const json& cache) {
  CacheState state{.kind = cache["kind"] == "static" ? CacheKind::kStatic : CacheKind::kDynamic,
                   .max_length = optional_number(cache, "max_cache_len")};
  for (const json& step : cache["history"]) state.num_seen += step.get<int64_t>();
  return state;
}

MaskInputs inputs_of(const json& c, const MaskConfig& config) {
  MaskInputs inputs{.geometry = {.batch = c["batch"], .q_length = c["q_length"]}};
  MaskGeometry& geometry = inputs.geometry;
  if (c.contains("cache")) {
    const CacheSizes sizes =
        cache_sizes(cache_of(c["cache"]), cache_window(c, config), geometry.q_length);
    geometry.kv_length = sizes.kv_length;
    geometry.kv_offset = sizes.kv_offset;
    geometry.q_offset = sizes.q_offset;
    EXPECT_EQ(sizes.kv_length, c["expected"]["kv_length"]);
    EXPECT_EQ(sizes.kv_offset, c["expected"]["kv_offset"]);
    EXPECT_EQ(sizes.q_offset, c["expected"]["q_offset"]);
  }
  if (c.contains("attention_mask")) inputs.valid_BT = rows_tensor(c["attention_mask"]).ne(0);
  if (c.contains("position_ids")) {
    inputs.document_ids_BT = document_ids_from_positions(rows_tensor(c["position_ids"]));
  }
  if (c.contains("block_sequence_ids")) {
    inputs.block_sequence_ids_BT = rows_tensor(c["block_sequence_ids"]);
  }
  if (c.contains("token_type_ids")) {
    inputs.block_sequence_ids_BT = image_block_ids(rows_tensor(c["token_type_ids"]));
    inputs.blocks_within_window = true;
  }
  const int64_t width = inputs.valid_BT.defined() ? inputs.valid_BT.size(1) : 0;
  const int64_t num_tokens = std::max({geometry.q_offset + geometry.q_length, width,
                                       geometry.kv_offset + geometry.kv_length.value_or(0)});
  if (c.contains("or_mask")) inputs.or_mask = oracle_rule(c["or_mask"], num_tokens);
  if (c.contains("and_mask")) inputs.and_mask = oracle_rule(c["and_mask"], num_tokens);
  return inputs;
}

BlockMask mask_of(const json& c, const MaskConfig& config, const MaskInputs& inputs) {
  const std::string creator = c["creator"];
  if (creator == "causal") return causal_mask(config, inputs);
  if (creator == "sliding_window_causal") return sliding_window_causal_mask(config, inputs);
  if (creator == "chunked_causal") return chunked_causal_mask(config, inputs);
  if (creator == "bidirectional") return bidirectional_mask(config, inputs);
  if (creator == "bidirectional_sliding_window") {
    return bidirectional_sliding_window_mask(config, inputs);
  }
  TORCH_CHECK(creator == "gemma3_vision", "unknown creator ", creator);
  const LayerMaskRule layer{.type = c["layer_type"]};
  return layer_masks(config, {layer}, inputs).attention.at(layer_mask_name(config, layer));
}

// Whether two tokens share a document, by the positions alone: bool [B, 1, T, T].
at::Tensor same_document(const at::Tensor& positions_BT) {
  const int64_t num_tokens = positions_BT.size(1);
  at::Tensor same = at::ones({positions_BT.size(0), 1, num_tokens, num_tokens}, at::kBool);
  for (int64_t t = 1; t < num_tokens; ++t) {  // a document that begins at t parts what is around
    const at::Tensor starts = positions_BT.select(1, t).sub(positions_BT.select(1, t - 1)).ne(1);
    for (int64_t b = 0; b < positions_BT.size(0); ++b) {
      if (!starts[b].item<bool>()) continue;
      same[b][0].slice(0, t).slice(1, 0, t).fill_(false);
      same[b][0].slice(0, 0, t).slice(1, t).fill_(false);
    }
  }
  return same;
}

void expect_mask(const json& c, const BlockMask& mask, const at::Tensor& theirs) {
  const at::Tensor ours = mask.to_dense().expand_as(theirs);
  const auto difference = differences().find(c["name"]);
  if (difference == differences().end()) {
    EXPECT_TRUE(ours.equal(theirs)) << rows(mask);
    // Where HF returns None, the mask says that it is full or causal. The unfilled keys of a static
    // cache make a mask that is not square.
    if (!c["expected"]["sdpa_returns_null"].get<bool>()) return;
    EXPECT_TRUE(mask.is_full() || mask == create_block_mask(causal(), mask.shape()));
    const bool square = mask.shape().q_len == mask.shape().kv_len;
    EXPECT_TRUE(!square || mask.is_full() || mask.is_causal());
    return;
  }
  EXPECT_FALSE(ours.equal(theirs)) << "is no difference: " << difference->second.why;
  const std::string expected = difference->second.expected;
  if (expected.empty()) {
    EXPECT_TRUE(ours.equal(theirs.logical_and(same_document(rows_tensor(c["position_ids"])))));
  } else {
    EXPECT_EQ(rows(mask), expected);
  }
}

TEST(HfMasksOracleTest, EqualsTransformers) {
  const json cases = read_json(golden("attention/masks_hf.json"))["cases"];
  const GoldenTensors tensors(golden("attention/masks_hf.safetensors"));
  ASSERT_EQ(cases.size(), 295U);
  size_t num_differences = 0;
  for (const json& c : cases) {
    const std::string name = c["name"];
    SCOPED_TRACE(name);
    const MaskConfig config = config_of(c["config"]);
    MaskInputs inputs = inputs_of(c, config);
    if (c["expected"].contains("error")) {
      const char* field = name == "chunk_size_missing" ? "attention_chunk_size" : "sliding_window";
      EXPECT_ERROR(mask_of(c, config, inputs), field, "got nothing");
      continue;
    }
    num_differences += differences().count(name);
    const at::Tensor theirs = tensors.bits(name + "/mask", c["expected"]["shape"]);
    for (const BlockSize block : {BlockSize{}, BlockSize{3, 5}}) {
      inputs.block = block;
      expect_mask(c, mask_of(c, config, inputs), theirs);
    }
  }
  EXPECT_EQ(num_differences, differences().size());
}

// HF: a dynamic window of one token keeps the last 0 tokens by [-0:], which is all, and from the
// second update on returns more keys than its mask has.
bool is_fault(const json& c, const CacheState& cache) {
  return c["hf_fault"].get<bool>() && cache.num_seen > 0;
}

TEST(HfMasksOracleTest, CacheSizesEqualTransformers) {
  const json cases = read_json(golden("attention/mask_cache_sizes.json"))["cases"];
  ASSERT_EQ(cases.size(), 98U);
  for (const json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    CacheState cache{.kind = c["kind"] == "static" ? CacheKind::kStatic : CacheKind::kDynamic,
                     .max_length = optional_number(c, "max_cache_len")};
    for (const json& step : c["steps"]) {
      const CacheSizes sizes = cache_sizes(cache, optional_number(c, "window"), step["q_length"]);
      EXPECT_EQ(sizes.kv_length, step["kv_length"]);
      EXPECT_EQ(sizes.kv_offset, step["kv_offset"]);
      EXPECT_EQ(sizes.q_offset, step["q_offset"]);
      EXPECT_EQ(sizes.kv_length == step["returned_keys"], !is_fault(c, cache));
      cache.num_seen += step["q_length"].get<int64_t>();
    }
  }
}

}  // namespace
}  // namespace tessera
