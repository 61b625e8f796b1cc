// `flex` against `eager` in float64 on the same values.
#include <ATen/Parallel.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/backends/flex/flex_passes.h"
#include "tests/attention/masks/random_masks.h"
#include "tests/support/attention_results.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::AttentionResults;
using testing::AttentionSizes;
using testing::backend;
using testing::epsilon;
using testing::expect_close;
using testing::expect_empty_rows;
using testing::expect_same;
using testing::leaf;
using testing::max_abs;
using testing::random_inputs;
using testing::RandomRules;
using testing::ResultTolerance;
using testing::run_attention;

// Returns lse as well, so that its gradient is compared too.
AttentionResults flex_case(const std::string& name, const AttentionInputs& inputs,
                           const BlockMask& mask, AttentionOptions options, at::ScalarType dtype) {
  options.return_lse = true;
  return run_attention(name, inputs, mask, options, dtype);
}

// As derived in attention_oracle_test.cpp: scores of randn inputs stay below 8, weights are off by
// eps (8 D + S) relatively, and results are sums of such weights times terms of the size of the
// largest result. Half types add one rounding of each result.
ResultTolerance flex_tolerance(const AttentionSizes& sizes, at::ScalarType dtype) {
  return {.absolute =
              4.0 * epsilon(at::kFloat) * static_cast<double>(8 * sizes.head_dim + sizes.kv_len),
          .relative = dtype == at::kFloat ? 0.0 : epsilon(dtype) / 2,
          .grows_with_result = true};
}

AttentionSizes random_sizes(RandomRules& random, int64_t max_tokens) {
  constexpr int64_t kDims[] = {1, 8, 16, 20, 32, 40, 64, 72, 128, 192, 256};
  const auto dim = [&] { return kDims[random.uniform(0, std::size(kDims) - 1)]; };
  AttentionSizes sizes{.q_len = random.uniform(1, max_tokens),
                       .kv_len = random.uniform(1, max_tokens)};
  sizes.kv_heads = int64_t{1} << random.uniform(0, 2);
  sizes.head_dim = dim();
  sizes.value_dim = random.uniform(0, 1) == 0 ? dim() : sizes.head_dim;
  return sizes;
}

AttentionOptions random_options(RandomRules& random, const AttentionSizes& sizes) {
  AttentionOptions options;
  if (random.uniform(0, 2) == 0)
    options.scale = 0.3 / std::sqrt(static_cast<double>(sizes.head_dim));
  if (random.uniform(0, 2) == 0) options.soft_cap = 2.0;
  if (random.uniform(0, 2) == 0) options.sinks_H = at::randn({sizes.heads});
  if (random.uniform(0, 2) == 0) options.alibi_slopes_H = at::rand({sizes.heads}) * 0.1;
  if (random.uniform(0, 2) == 0) {
    std::vector<int64_t> shape{sizes.batch, sizes.heads, sizes.q_len, sizes.kv_len};
    for (int64_t& size : shape) size = random.uniform(0, 1) == 0 ? 1 : size;
    options.bias_BHTS = at::randn(shape);
  }
  return options;
}

TEST(FlexAttentionTest, EqualsEagerOnRandomMasksAndOptions) {
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const int64_t max_tokens = seed % 10 == 0 ? 300 : 60;
    RandomRules random(seed, max_tokens);
    // Products of bfloat16 are flex_bf16_test.cpp's.
    const bool reads_bf16 = flex::tile_kernels().bf16 == nullptr;
    const at::ScalarType types[] = {at::kFloat, at::kFloat, reads_bf16 ? at::kBFloat16 : at::kHalf,
                                    at::kHalf};
    const at::ScalarType dtype = types[seed % 4];
    const AttentionSizes sizes = random_sizes(random, max_tokens);
    const MaskMod rule = random.rule(/*batch=*/2, 3).rule;
    SCOPED_TRACE(rule.to_string());
    MaskShape shape = testing::random_shape(random, max_tokens);
    shape.q_len = sizes.q_len;
    shape.kv_len = sizes.kv_len;
    shape.batch = rule.batch_size();
    const BlockMask mask = create_block_mask(rule, shape);
    const AttentionInputs in = random_inputs(sizes, dtype);
    const AttentionOptions options = random_options(random, sizes);
    const AttentionResults flex = flex_case("flex", in, mask, options, dtype);
    expect_same(flex, flex_case("eager", in, mask, options, at::kDouble),
                flex_tolerance(sizes, dtype));
    expect_empty_rows(flex, mask);
    if (HasFailure()) return;
  }
}

TEST(FlexAttentionTest, TakesMasksPerHead) {
  const at::Tensor allowed = at::rand({2, 4, 50, 70}) < 0.3;
  const BlockMask mask = testing::block_mask_from_dense(allowed, {.q = 16, .kv = 32});
  const AttentionSizes sizes{.q_len = 50, .kv_len = 70};
  const AttentionInputs in = random_inputs(sizes, at::kFloat);
  expect_same(flex_case("flex", in, mask, {}, at::kFloat),
              flex_case("eager", in, mask, {}, at::kDouble), flex_tolerance(sizes, at::kFloat));
}

// Blocks of the default size, with full runs, diagonals and document bounds inside tiles.
TEST(FlexAttentionTest, EqualsEagerOnPackedRowsOfDefaultBlocks) {
  constexpr int64_t kTokens = 700;
  RandomRules random(1, kTokens);
  const MaskMod rule = causal() & document(random.document_ids(2, 300));
  const BlockMask mask = create_block_mask(rule, {.batch = 2, .q_len = kTokens, .kv_len = kTokens});
  const AttentionSizes sizes{.q_len = kTokens, .kv_len = kTokens, .head_dim = 64, .value_dim = 64};
  const AttentionInputs in = random_inputs(sizes, at::kFloat);
  expect_same(flex_case("flex", in, mask, {}, at::kFloat),
              flex_case("eager", in, mask, {}, at::kDouble), flex_tolerance(sizes, at::kFloat));
}

// Blocks of more rows than are computed together, full and partial.
TEST(FlexAttentionTest, TakesBlocksOfAnySize) {
  constexpr int64_t kTokens = 330;
  const AttentionSizes sizes{.q_len = kTokens, .kv_len = kTokens, .head_dim = 24, .value_dim = 40};
  const AttentionInputs in = random_inputs(sizes, at::kFloat);
  for (const BlockSize block : {BlockSize{200, 128}, BlockSize{300, 70}, BlockSize{150, 330}}) {
    for (const MaskMod& rule : {full(), causal() | first_tokens(100)}) {
      const BlockMask mask =
          create_block_mask(rule, {.q_len = kTokens, .kv_len = kTokens, .block = block});
      expect_same(flex_case("flex", in, mask, {}, at::kFloat),
                  flex_case("eager", in, mask, {}, at::kDouble), flex_tolerance(sizes, at::kFloat));
    }
  }
}

void expect_equal_for_any_number_of_threads(const AttentionInputs& in, const BlockMask& mask,
                                            const AttentionOptions& options) {
  const int threads_before = at::get_num_threads();
  at::set_num_threads(1);
  const AttentionResults one = flex_case("flex", in, mask, options, at::kFloat);
  for (const int threads : {2, 4, 8}) {
    at::set_num_threads(threads);
    const AttentionResults many = flex_case("flex", in, mask, options, at::kFloat);
    EXPECT_TRUE(many.out_BTHE.equal(one.out_BTHE)) << threads;
    EXPECT_TRUE(many.lse_BHT.equal(one.lse_BHT)) << threads;
    EXPECT_TRUE(many.dq_BTHD.equal(one.dq_BTHD)) << threads;
    EXPECT_TRUE(many.dk_BSKD.equal(one.dk_BSKD)) << threads;
    EXPECT_TRUE(many.dv_BSKE.equal(one.dv_BSKE)) << threads;
    if (options.bias_BHTS.defined()) {
      EXPECT_TRUE(many.d_bias_BHTS.equal(one.d_bias_BHTS)) << threads;
    }
    if (options.sinks_H.defined()) {
      EXPECT_TRUE(many.d_sinks_H.equal(one.d_sinks_H)) << threads;
    }
  }
  at::set_num_threads(threads_before);
}

TEST(FlexAttentionTest, BitwiseEqualForAnyNumberOfThreads) {
  const AttentionSizes sizes{.q_len = 300, .kv_len = 300, .head_dim = 32, .value_dim = 32};
  const AttentionInputs in = random_inputs(sizes, at::kFloat);
  const BlockMask mask =
      create_block_mask(causal(), {.q_len = 300, .kv_len = 300, .block = {64, 32}});
  expect_equal_for_any_number_of_threads(in, mask, {});
  expect_equal_for_any_number_of_threads(
      in, mask, {.sinks_H = at::randn({4}), .bias_BHTS = at::randn({1, 1, 300, 300})});
}

// Masks that cut the keys of each head elsewhere, and one bias for all.
TEST(FlexAttentionTest, BitwiseEqualWhereHeadsShareABias) {
  const AttentionSizes sizes{.q_len = 300, .kv_len = 300};
  const at::Tensor allowed = at::rand({2, 4, 300, 300}) < 0.3;
  for (int64_t h = 0; h < 4; ++h) allowed.select(1, h).slice(2, 60 * (h + 1)).zero_();
  const BlockMask mask = testing::block_mask_from_dense(allowed, {.q = 64, .kv = 32});
  expect_equal_for_any_number_of_threads(random_inputs(sizes, at::kFloat), mask,
                                         {.bias_BHTS = at::randn({1, 1, 1, 300})});
}

// Scores near the end of float32's range, of either sign, in rows of any kind.
TEST(FlexAttentionTest, HugeScoresGiveNoNaN) {
  const BlockMask mask = create_block_mask(causal() & ~sliding_window({.left = 0, .right = 0}),
                                           {.q_len = 40, .kv_len = 40, .block = {16, 16}});
  for (const double size : {1e3, 1e15}) {
    AttentionInputs in = random_inputs({.q_len = 40, .kv_len = 40}, at::kFloat);
    in.q_BTHD = in.q_BTHD.detach() * size;
    in.k_BSKD = in.k_BSKD.detach() * size;
    const AttentionResults results = flex_case("flex", in, mask, {}, at::kFloat);
    for (const at::Tensor& x :
         {results.out_BTHE, results.dq_BTHD, results.dk_BSKD, results.dv_BSKE}) {
      EXPECT_FALSE(x.isnan().any().item<bool>()) << size;
    }
    EXPECT_LE(max_abs(results.out_BTHE), max_abs(in.v_BSKE) * 1.0001);
  }
}

TEST(FlexAttentionTest, DocumentsDoNotLeak) {
  const at::Tensor ids = at::zeros({1, 200}, at::kLong);
  ids.slice(1, 90).fill_(1);
  const BlockMask mask = create_block_mask(causal() & document(ids), {.q_len = 200, .kv_len = 200});
  const AttentionInputs in = random_inputs({.batch = 1, .q_len = 200, .kv_len = 200}, at::kFloat);
  AttentionInputs changed = in.fresh();
  for (const at::Tensor& x : {changed.q_BTHD, changed.k_BSKD, changed.v_BSKE}) {
    x.detach().slice(1, 0, 90).add_(3.0);
  }
  const at::Tensor whole = flex_case("flex", in, mask, {}, at::kFloat).out_BTHE.slice(1, 90);
  EXPECT_TRUE(whole.equal(flex_case("flex", changed, mask, {}, at::kFloat).out_BTHE.slice(1, 90)));
  const AttentionInputs alone{in.q_BTHD.slice(1, 90), in.k_BSKD.slice(1, 90),
                              in.v_BSKE.slice(1, 90), in.d_out_BTHE.slice(1, 90)};
  const BlockMask causal_mask = create_block_mask(causal(), {.q_len = 110, .kv_len = 110});
  expect_close(whole, flex_case("flex", alone, causal_mask, {}, at::kFloat).out_BTHE,
               64 * epsilon(at::kFloat), 0, "alone");
}

// Strided views, as a model that projects q, k and v at once would pass them.
TEST(FlexAttentionTest, TakesStridedInputs) {
  const at::Tensor qkv_BTHX = at::randn({2, 30, 4, 48});
  const auto piece = [&](int64_t i) { return qkv_BTHX.narrow(3, 16 * i, 16); };
  const BlockMask mask = create_block_mask(causal(), {.q_len = 30, .kv_len = 30});
  const at::Tensor strided = backend("flex")(piece(0), piece(1), piece(2), mask).out_BTHE;
  const at::Tensor copied =
      backend("flex")(piece(0).contiguous(), piece(1).contiguous(), piece(2).contiguous(), mask)
          .out_BTHE;
  EXPECT_TRUE(strided.equal(copied));
  const at::Tensor turned = piece(0).transpose(1, 3).contiguous().transpose(1, 3);
  EXPECT_TRUE(backend("flex")(turned, piece(1), piece(2), mask).out_BTHE.equal(copied));
}

TEST(FlexAttentionTest, EveryInstructionSetEqualsEager) {
  ASSERT_GE(flex::num_tile_kernels(), 1U);
  constexpr int64_t kTokens = 150;
  RandomRules random(5, kTokens);
  const MaskMod rule = causal() & document(random.document_ids(2, 90));
  const BlockMask mask = create_block_mask(
      rule, {.batch = 2, .q_len = kTokens, .kv_len = kTokens, .block = {.q = 48, .kv = 40}});
  const AttentionSizes sizes{.q_len = kTokens, .kv_len = kTokens, .head_dim = 40, .value_dim = 24};
  const AttentionInputs in = random_inputs(sizes, at::kFloat);
  const AttentionOptions options{.scale = 0.2, .soft_cap = 3.0, .alibi_slopes_H = at::rand({4})};
  const AttentionResults expected = flex_case("eager", in, mask, options, at::kDouble);
  const flex::FlexInputs inputs{.q_BTHD = in.q_BTHD.detach(),
                                .k_BSKD = in.k_BSKD.detach(),
                                .v_BSKE = in.v_BSKE.detach(),
                                .alibi_slopes_H = options.alibi_slopes_H,
                                .scale = 0.2,
                                .soft_cap = 3.0};
  for (size_t i = 0; i < flex::num_tile_kernels(); ++i) {
    const flex::TileKernels& kernels = flex::tile_kernels(i);
    SCOPED_TRACE(kernels.name);
    const flex::ForwardResult result = flex::forward(inputs, mask, kernels);
    const at::Tensor d_lse = in.d_out_BTHE.select(3, 0).transpose(1, 2);
    const flex::BackwardResult gradients =
        flex::backward(inputs, mask, result, in.d_out_BTHE, d_lse, /*wants_d_bias=*/false, kernels);
    expect_same({.out_BTHE = result.out_BTHE,
                 .lse_BHT = result.lse_BHT,
                 .dq_BTHD = gradients.d_q_BTHD,
                 .dk_BSKD = gradients.d_k_BSKD,
                 .dv_BSKE = gradients.d_v_BSKE},
                expected, flex_tolerance(sizes, at::kFloat));
  }
}

TEST(FlexAttentionTest, RefusesWhatItCannotDoByName) {
  const at::Tensor x = at::zeros({1, 3, 2, 4});
  const BlockMask mask = create_block_mask(causal(), {.q_len = 3, .kv_len = 3});
  const at::Tensor x64 = x.to(at::kDouble);
  EXPECT_ERROR(backend("flex")(x64, x64, x64, mask), "\"flex\"", "Double", "\"eager\"");
  AttentionOptions weights;
  weights.return_weights = true;
  EXPECT_ERROR(backend("flex")(x, x, x, mask, weights), "return_weights", "\"eager\"");
  EXPECT_ERROR(backend("flex")(x, x, x, mask, {.alibi_slopes_H = leaf(at::zeros({2}))}),
               "alibi_slopes_H", "gradient");
}

}  // namespace
}  // namespace tessera
