// Masks per layer, cache geometry, properties of packed rows and caches, and refused input.
#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "attention/interchange/hf_masks.h"
#include "tests/attention/interchange/hf_mask_cases.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::bits;
using testing::cached;
using testing::chunks;
using testing::digits;
using testing::padded;
using testing::rows;
using testing::sliding;
using testing::tokens;

using Names = std::vector<std::string>;
using Builder = BlockMask (*)(const MaskConfig&, const MaskInputs&, const CreateMaskFn&);

constexpr Builder kBuilders[] = {causal_mask, sliding_window_causal_mask, chunked_causal_mask,
                                 bidirectional_mask, bidirectional_sliding_window_mask};

BlockMask build(Builder builder, const MaskConfig& config, const MaskInputs& inputs) {
  return builder(config, inputs, create_block_mask);
}

TEST(HfLayerMasksTest, OneMaskPerDistinctRule) {
  const MaskConfig config{.sliding_window = 3, .attention_chunk_size = 2};
  const std::vector<LayerMaskRule> layers = {
      {.type = "sliding_attention"},
      {.type = "full_attention"},
      {.type = "sliding_attention", .size = 2},
      {.type = "chunked_attention"},
      {.type = "sliding_attention", .size = 3},
      {.type = "compressed_sparse_attention"},
      {.type = "chunked_attention", .size = 4},
      {.type = "indexed_attention"},
  };
  int num_built = 0;
  const CreateMaskFn counting = [&](const MaskMod& rule, const MaskShape& shape) {
    ++num_built;
    return create_block_mask(rule, shape);
  };
  const LayerMasks masks = layer_masks(config, layers, tokens(5), {}, counting);
  EXPECT_EQ(masks.attention.names(),
            (Names{"sliding_attention", "full_attention", "sliding_attention_2",
                   "chunked_attention", "chunked_attention_4"}));
  EXPECT_EQ(num_built, 5);
  EXPECT_FALSE(masks.recurrent.defined());
  const auto layer_rows = [&](size_t i) {
    return rows(masks.attention.at(layer_mask_name(config, layers[i])));
  };
  EXPECT_EQ(layer_rows(0), "10000 11000 11100 01110 00111");
  EXPECT_EQ(layer_rows(1), "10000 11000 11100 11110 11111");
  EXPECT_EQ(layer_rows(2), "10000 11000 01100 00110 00011");
  EXPECT_EQ(layer_rows(3), "10000 11000 00100 00110 00001");
  EXPECT_EQ(layer_rows(4), layer_rows(0));
  EXPECT_EQ(layer_rows(5), layer_rows(0));
  EXPECT_EQ(layer_rows(6), "10000 11000 11100 11110 00001");
  EXPECT_EQ(layer_rows(7), layer_rows(1));
}

TEST(HfLayerMasksTest, LayersOfAConfig) {
  const auto types = [](const MaskConfig& config) {
    Names names;
    for (const LayerMaskRule& layer : layer_mask_rules(config)) names.push_back(layer.type);
    return names;
  };
  EXPECT_EQ(types({}), Names{"full_attention"});
  EXPECT_EQ(types(sliding(4)), Names{"sliding_attention"});
  EXPECT_EQ(types(chunks(4)), Names{"chunked_attention"});
  const Names mixed{"sliding_attention", "conv", "sliding_attention"};
  EXPECT_EQ(types({.sliding_window = 4, .layer_types = mixed}), mixed);
}

// HF files a causal mask without window under the sliding layers of "hybrid_sliding"; here the
// window stays.
TEST(HfLayerMasksTest, HybridLayersHaveBothMasks) {
  const MaskConfig config{.sliding_window = 2, .layer_types = {"hybrid_sliding", "hybrid"}};
  const LayerMasks masks = layer_masks(config, layer_mask_rules(config), padded("0111"));
  EXPECT_EQ(masks.attention.names(), (Names{"sliding_attention", "full_attention"}));
  EXPECT_EQ(rows(masks.attention.at("sliding_attention")), "0000 0100 0110 0011");
  EXPECT_EQ(rows(masks.attention.at("full_attention")), "0000 0100 0110 0111");
  EXPECT_TRUE(masks.recurrent.equal(bits("0111")));
}

TEST(HfLayerMasksTest, RecurrentLayersHaveNoAttentionMask) {
  const MaskConfig config{.layer_types = {"linear_attention", "conv", "mamba"}};
  const LayerMasks masks = layer_masks(config, layer_mask_rules(config), tokens(3, /*batch=*/2));
  EXPECT_EQ(masks.attention.size(), 0U);
  EXPECT_TRUE(masks.recurrent.equal(bits("111 111")));
  EXPECT_EQ(layer_mask_name(config, {.type = "conv"}), "");
}

TEST(HfLayerMasksTest, EachLayerHasTheSizesOfItsCache) {
  const MaskConfig config{
      .sliding_window = 4,
      .attention_chunk_size = 3,
      .layer_types = {"full_attention", "sliding_attention", "chunked_attention"}};
  const LayerMasks masks =
      layer_masks(config, layer_mask_rules(config), tokens(2), CacheState{.num_seen = 6});
  EXPECT_EQ(rows(masks.attention.at("full_attention")), "11111110 11111111");
  EXPECT_EQ(rows(masks.attention.at("sliding_attention")), "11110 01111");
  EXPECT_EQ(rows(masks.attention.at("chunked_attention")), "0010 0011");
}

// Documents of one row, each as a mask of its own.
TEST(HfMaskPropertyTest, APackedRowIsItsDocumentsAlone) {
  std::mt19937 random(20);
  const auto uniform = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int trial = 0; trial < 300; ++trial) {
    SCOPED_TRACE(c10::str("trial ", trial));
    const Builder builder = kBuilders[trial % 5];
    const MaskConfig config{.sliding_window = uniform(1, 6), .attention_chunk_size = uniform(1, 6)};
    const int64_t num_tokens = uniform(1, 40);
    const at::Tensor ids_BT = digits(std::string(num_tokens, '0'));
    for (int64_t t = 1; t < num_tokens; ++t) {
      ids_BT.mutable_data_ptr<int64_t>()[t] =
          ids_BT.const_data_ptr<int64_t>()[t - 1] + (uniform(0, 5) == 0 ? 1 : 0);
    }
    MaskInputs inputs = tokens(num_tokens);
    inputs.block = {uniform(1, 9), uniform(1, 9)};
    if (uniform(0, 1) == 0) inputs.or_mask = first_tokens(uniform(0, 4));
    if (uniform(0, 1) == 0) inputs.and_mask = sliding_window({.left = uniform(0, 8)});
    MaskInputs row = inputs;
    row.document_ids_BT = ids_BT;
    const at::Tensor dense = build(builder, config, row).to_dense()[0][0];
    int64_t num_pairs = 0;
    for (int64_t begin = 0; begin < num_tokens;) {
      const at::Tensor document = ids_BT[0].eq(ids_BT[0][begin]);
      const int64_t length = document.sum().item<int64_t>();
      inputs.geometry.q_length = length;
      const BlockMask alone = build(builder, config, inputs);
      EXPECT_TRUE(dense.slice(0, begin, begin + length)
                      .slice(1, begin, begin + length)
                      .equal(alone.to_dense()[0][0]));
      num_pairs += alone.num_pairs();
      begin += length;
    }
    EXPECT_EQ(dense.sum().item<int64_t>(), num_pairs);  // and nothing outside
  }
}

// Whatever a cache has dropped, no query may still see: each step's mask is the whole sequence's.
TEST(HfMaskPropertyTest, StepsOfACacheAreRowsOfTheWholeMask) {
  const std::vector<int64_t> steps = {3, 1, 4, 1, 2, 1, 1, 5};
  constexpr int64_t kLength = 18;
  for (const CacheKind kind : {CacheKind::kDynamic, CacheKind::kStatic}) {
    for (int64_t size = 1; size <= 9; ++size) {
      for (const Builder builder : {causal_mask, sliding_window_causal_mask, chunked_causal_mask}) {
        SCOPED_TRACE(c10::str("size ", size, ", kind ", static_cast<int>(kind)));
        const MaskConfig config{.sliding_window = size, .attention_chunk_size = size};
        const std::optional<int64_t> kept =
            builder == causal_mask ? std::nullopt : std::optional<int64_t>(size);
        const at::Tensor whole = build(builder, config, tokens(kLength)).to_dense()[0][0];
        CacheState cache{.kind = kind};
        if (kind == CacheKind::kStatic) cache.max_length = kLength;
        for (const int64_t step : steps) {
          const MaskInputs inputs = cached(cache, kept, step);
          const at::Tensor mask = build(builder, config, inputs).to_dense()[0][0];
          const at::Tensor queries = whole.slice(0, cache.num_seen, cache.num_seen + step);
          const int64_t begin = inputs.geometry.kv_offset;
          const int64_t end = std::min(begin + *inputs.geometry.kv_length, kLength);
          EXPECT_TRUE(mask.slice(1, 0, end - begin).equal(queries.slice(1, begin, end)));
          EXPECT_EQ(mask.sum().item<int64_t>(), queries.sum().item<int64_t>());
          cache.num_seen += step;
        }
      }
    }
  }
}

TEST(HfMaskErrorTest, Geometry) {
  const auto with = [](auto change) {
    MaskInputs inputs = tokens(4);
    change(inputs.geometry);
    return causal_mask({}, inputs);
  };
  EXPECT_ERROR(with([](auto& g) { g.batch = 0; }), "causal_mask: geometry.batch", "got 0");
  EXPECT_ERROR(with([](auto& g) { g.heads = -1; }), "geometry.heads", "got -1");
  EXPECT_ERROR(with([](auto& g) { g.q_length = 0; }), "geometry.q_length", "at least 1");
  EXPECT_ERROR(with([](auto& g) { g.kv_length = 0; }), "geometry.kv_length", "at least 1");
  EXPECT_ERROR(with([](auto& g) { g.q_offset = -1; }), "geometry.q_offset", "at least 0");
  EXPECT_ERROR(with([](auto& g) { g.kv_offset = -2; }), "geometry.kv_offset", "got -2");
  EXPECT_ERROR(causal_mask({}, tokens(4), CreateMaskFn{}), "create_mask_fn", "no function");
}

TEST(HfMaskErrorTest, Config) {
  EXPECT_ERROR(sliding_window_causal_mask({}, tokens(4)),
               "sliding_window_causal_mask: config.sliding_window", "got nothing");
  EXPECT_ERROR(sliding_window_causal_mask(sliding(0), tokens(4)), "config.sliding_window", "got 0",
               "at least 1");
  EXPECT_ERROR(bidirectional_sliding_window_mask({}, tokens(4)), "config.sliding_window",
               "got nothing");
  EXPECT_ERROR(bidirectional_sliding_window_mask(sliding(-1), tokens(4)), "config.sliding_window",
               "got -1", "at least 0");
  EXPECT_ERROR(chunked_causal_mask({}, tokens(4)), "config.attention_chunk_size", "got nothing");
  EXPECT_ERROR(chunked_causal_mask(chunks(0), tokens(4)), "config.attention_chunk_size", "got 0");
}

TEST(HfMaskErrorTest, Padding) {
  MaskInputs inputs = tokens(4, /*batch=*/3);
  inputs.valid_BT = bits("1111 1111");
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "got 2 rows", "geometry.batch = 3");
  inputs.valid_BT = bits("1111")[0];
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "got shape [4]", "[B, T]");
  inputs.valid_BT = bits("1111").to(at::kFloat);
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "Float", "Bool");
  inputs.valid_BT = bits("1111").to(at::kMeta);
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "on meta", "the CPU");
  inputs.valid_BT = bits("1111").slice(1, 0, 0);
  EXPECT_ERROR(causal_mask({}, inputs), "valid_BT", "got shape [1, 0]");
}

TEST(HfMaskErrorTest, Ids) {
  MaskInputs inputs = tokens(4);
  inputs.document_ids_BT = digits("001");
  EXPECT_ERROR(causal_mask({}, inputs), "document_ids_BT", "3 tokens", "end at token 4");
  inputs.document_ids_BT = digits("0010");
  EXPECT_ERROR(causal_mask({}, inputs), "id 0 in separate runs");
  inputs.document_ids_BT = digits("0011").to(at::kInt);
  EXPECT_ERROR(causal_mask({}, inputs), "document_ids_BT", "Int", "Long");
  inputs.document_ids_BT = digits("0011").add(std::numeric_limits<int64_t>::max() - 1);
  EXPECT_ERROR(causal_mask({}, inputs), "document_ids_BT", "largest int64");
  inputs = tokens(4);
  inputs.block_sequence_ids_BT = bits("0011");
  EXPECT_ERROR(causal_mask({}, inputs), "block_sequence_ids_BT", "Bool", "Long");
  inputs.block_sequence_ids_BT = digits("0011 0011");
  EXPECT_ERROR(causal_mask({}, inputs), "block_sequence_ids_BT", "got 2 rows");
}

TEST(HfMaskErrorTest, Helpers) {
  // Positions of a multimodal RoPE, one per axis, are no packing.
  EXPECT_ERROR(document_ids_from_positions(digits("012").expand({3, 1, 3})),
               "document_ids_from_positions: positions_BT", "[3, 1, 3]", "[B, T]");
  EXPECT_ERROR(document_ids_from_positions(digits("012")[0]), "positions_BT", "[3]");
  EXPECT_ERROR(document_ids_from_positions(digits("012").to(at::kInt)), "positions_BT", "Int");
  EXPECT_ERROR(document_ids_from_positions({}), "positions_BT", "got no tensor");
  EXPECT_ERROR(image_block_ids(bits("01")), "image_block_ids: token_types_BT", "Bool");
  EXPECT_ERROR(image_block_ids(digits("01"), {}), "image_types", "got none");
  EXPECT_ERROR(prefix_block_ids(bits("01")), "prefix_block_ids: token_types_BT", "Bool");
  EXPECT_ERROR(recurrent_mask(tokens(0)), "recurrent_mask: geometry.q_length", "got 0");
  EXPECT_ERROR(recurrent_mask(tokens(1, 0)), "geometry.batch", "got 0");
  MaskInputs inputs = tokens(4);
  inputs.valid_BT = bits("111");
  EXPECT_ERROR(recurrent_mask(inputs), "valid_BT", "got 3 columns", "q_length = 4");
  inputs.valid_BT = digits("1111");
  EXPECT_ERROR(recurrent_mask(inputs), "valid_BT", "Long");
}

TEST(HfMaskErrorTest, Cache) {
  EXPECT_ERROR(cache_sizes({.num_seen = -1}, {}, 1), "cache_sizes: num_seen", "got -1");
  EXPECT_ERROR(cache_sizes({}, {}, 0), "q_length", "got 0");
  EXPECT_ERROR(cache_sizes({}, 0, 1), "window", "got 0");
  EXPECT_ERROR(cache_sizes({.kind = CacheKind::kStatic}, {}, 1), "max_length", "got nothing");
  EXPECT_ERROR(cache_sizes({.max_length = 4}, {}, 1), "max_length", "got a number");
  CacheState cache{.kind = CacheKind::kStatic, .num_seen = 3, .max_length = 4};
  EXPECT_EQ(cache_sizes(cache, {}, 1).kv_length, 4);
  EXPECT_ERROR(cache_sizes(cache, {}, 2), "max_length", "got 4", "room for 5 tokens");
  EXPECT_ERROR(cache_sizes(cache, 5, 2), "max_length", "got 4", "room for 5 tokens");
  cache.num_seen = 2;  // a cache shorter than the window
  EXPECT_EQ(cache_sizes(cache, 9, 2), (CacheSizes{.kv_length = 4, .q_offset = 2}));
  cache.num_seen = 100;  // a window that fits never runs full
  EXPECT_EQ(cache_sizes(cache, 4, 2),
            (CacheSizes{.kv_length = 5, .kv_offset = 97, .q_offset = 100}));
}

TEST(HfMaskErrorTest, Layers) {
  EXPECT_ERROR(layer_masks({}, {}, tokens(4)), "layers", "got none");
  EXPECT_ERROR(layer_mask_name({}, {.type = "moe"}), "layer type", "got \"moe\"");
  EXPECT_ERROR(layer_masks({}, {{.type = "full_attention", .size = 4}}, tokens(4)),
               "\"full_attention\": size", "got 4", "expected nothing");
  EXPECT_ERROR(layer_masks({}, {{.type = "conv", .size = 4}}, tokens(4)), "\"conv\": size");
  EXPECT_ERROR(layer_masks({}, {{.type = "sliding_attention"}}, tokens(4)), "config.sliding_window",
               "got nothing");
}

}  // namespace
}  // namespace tessera
