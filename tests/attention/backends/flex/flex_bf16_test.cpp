// Flex attention in products of bfloat16, against `eager` in float64 on the same values. Where the
// processor has no such products they are emulated, so that everything around them is tested.
#include <ATen/Parallel.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/backends/flex/flex_passes.h"
#include "tests/attention/backends/flex/bf16_emulation.h"
#include "tests/attention/masks/random_masks.h"
#include "tests/attention/op/attention_cases.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::AttentionSizes;
using testing::backend;
using testing::emulated_bf16_kernels;
using testing::epsilon;
using testing::leaf;
using testing::random_inputs;
using testing::RandomRules;

const flex::TileKernels& bf16_kernels() {
  const flex::TileKernels& fastest = flex::tile_kernels();
  return fastest.bf16 != nullptr ? fastest : emulated_bf16_kernels();
}

struct Case {
  // The gradient of lse, as flex::backward takes it.
  at::Tensor d_lse_BHT() const {
    return inputs.d_out_BTHE.select(3, 0).transpose(1, 2).to(at::kFloat);
  }

  AttentionSizes sizes{};
  AttentionInputs inputs{};
  BlockMask mask;
  AttentionOptions options{};
};

// Results in float64 by eager, and the most that rounding p and ds to bfloat16 may change each: a
// rounded number is off by half an epsilon, so a sum of products by half an epsilon times the sum
// of their magnitudes. ds = p (dp - delta) is also off by p times the error of delta = sum do out;
// the bias's gradient is ds before it is rounded.
struct Expected {
  at::Tensor out, d_q, d_k, d_v, d_bias, d_sinks;
  at::Tensor out_bound, d_q_bound, d_k_bound, d_v_bound, d_bias_bound, d_sinks_bound;
};

double scale_of(const Case& test) {
  return test.options.scale.value_or(1.0 / std::sqrt(static_cast<double>(test.sizes.head_dim)));
}

at::Tensor per_q_head(const at::Tensor& x_BSKD, int64_t heads) {
  return x_BSKD.repeat_interleave(heads / x_BSKD.size(2), 2);
}

at::Tensor summed_by_kv_head(const at::Tensor& x_BSHD, int64_t kv_heads) {
  return x_BSHD.unflatten(2, {kv_heads, -1}).sum(3);
}

Expected expected_of(const Case& test) {
  const auto cast = [](const at::Tensor& x) { return leaf(x.detach().to(at::kDouble)); };
  const at::Tensor q = cast(test.inputs.q_BTHD);
  const at::Tensor k = cast(test.inputs.k_BSKD);
  const at::Tensor v = cast(test.inputs.v_BSKE);
  AttentionOptions options = test.options;
  options.return_weights = true;
  options.return_lse = true;
  const int64_t heads = test.sizes.heads;
  const at::Tensor bias =
      options.bias_BHTS.defined() ? options.bias_BHTS.to(at::kDouble) : at::zeros({}, at::kDouble);
  options.bias_BHTS =
      leaf(bias.expand({test.sizes.batch, heads, test.sizes.q_len, test.sizes.kv_len}));
  if (options.sinks_H.defined()) options.sinks_H = cast(options.sinks_H);
  if (options.alibi_slopes_H.defined())
    options.alibi_slopes_H = options.alibi_slopes_H.to(at::kDouble);
  const AttentionOutput output = backend("eager")(q, k, v, test.mask, options);
  const at::Tensor d_out = test.inputs.d_out_BTHE.to(at::kDouble);
  const at::Tensor lse = output.lse_BHT.masked_fill(output.lse_BHT.isinf(), 0.0);
  ((output.out_BTHE * d_out).sum() + (lse * test.d_lse_BHT()).sum()).backward();

  const double half = epsilon(at::kBFloat16) / 2;
  const at::Tensor p = output.weights_BHTS.detach();
  const at::Tensor k_BSHD = per_q_head(k.detach(), heads).abs();
  const at::Tensor out_bound =
      half * at::einsum("bhts,bshe->bthe", {p, per_q_head(v.detach(), heads).abs()});
  const at::Tensor d_delta_BHT1 = (d_out.abs() * out_bound).sum(3).transpose(1, 2).unsqueeze(3);
  // The bias's gradient is ds before the soft cap's slope, which is at most 1.
  const at::Tensor d_bias = options.bias_BHTS.grad();
  const at::Tensor d_s = (half * d_bias.abs() + p * d_delta_BHT1) * (1 + half) * scale_of(test);
  const int64_t kv_heads = test.sizes.kv_heads;
  const at::Tensor d_k_bound = at::einsum("bhts,bthd->bshd", {d_s, q.detach().abs()});
  const at::Tensor d_v_bound = half * at::einsum("bhts,bthe->bshe", {p, d_out.abs()});
  return {.out = output.out_BTHE.detach(),
          .d_q = q.grad(),
          .d_k = k.grad(),
          .d_v = v.grad(),
          .d_bias = d_bias,
          .d_sinks = options.sinks_H.defined() ? options.sinks_H.grad() : at::Tensor(),
          .out_bound = out_bound,
          .d_q_bound = at::einsum("bhts,bshd->bthd", {d_s, k_BSHD}),
          .d_k_bound = summed_by_kv_head(d_k_bound, kv_heads),
          .d_v_bound = summed_by_kv_head(d_v_bound, kv_heads),
          .d_bias_bound = p * d_delta_BHT1,
          .d_sinks_bound = d_delta_BHT1.sum({0, 2, 3})};  // a sink's weight is at most 1
}

// |actual - expected| <= bound + what float32 adds, which flex_attention_test.cpp derives.
void expect_within(const at::Tensor& actual, const at::Tensor& expected, const at::Tensor& bound,
                   const AttentionSizes& sizes, const char* what) {
  const double noise =
      4.0 * epsilon(at::kFloat) * static_cast<double>(8 * sizes.head_dim + sizes.kv_len);
  const double largest = std::max(1.0, testing::max_abs(expected));
  const at::Tensor error = (actual.to(at::kDouble) - expected).abs();
  const at::Tensor excess = error - bound - noise * largest;
  EXPECT_FALSE(excess.isnan().any().item<bool>()) << what;
  EXPECT_LE(excess.max().item<double>(), 0.0) << what;
}

struct Flex {
  flex::ForwardResult result{};
  flex::BackwardResult gradients{};
};

Flex run_flex(const Case& test, const flex::TileKernels& kernels) {
  const flex::FlexInputs inputs{.q_BTHD = test.inputs.q_BTHD.detach(),
                                .k_BSKD = test.inputs.k_BSKD.detach(),
                                .v_BSKE = test.inputs.v_BSKE.detach(),
                                .sinks_H = test.options.sinks_H,
                                .bias_BHTS = test.options.bias_BHTS,
                                .alibi_slopes_H = test.options.alibi_slopes_H,
                                .scale = scale_of(test),
                                .soft_cap = test.options.soft_cap};
  Flex flex{.result = flex::forward(inputs, test.mask, kernels)};
  flex.gradients =
      flex::backward(inputs, test.mask, flex.result, test.inputs.d_out_BTHE, test.d_lse_BHT(),
                     /*wants_d_bias=*/test.options.bias_BHTS.defined(), kernels);
  return flex;
}

void expect_equals_eager(const Case& test) {
  const Flex flex = run_flex(test, bf16_kernels());
  const Expected expected = expected_of(test);
  expect_within(flex.result.out_BTHE, expected.out, expected.out_bound, test.sizes, "out");
  expect_within(flex.gradients.d_v_BSKE, expected.d_v, expected.d_v_bound, test.sizes, "dv");
  expect_within(flex.gradients.d_q_BTHD, expected.d_q, expected.d_q_bound, test.sizes, "dq");
  expect_within(flex.gradients.d_k_BSKD, expected.d_k, expected.d_k_bound, test.sizes, "dk");
  if (const at::Tensor& bias = test.options.bias_BHTS; bias.defined()) {
    expect_within(flex.gradients.d_bias_BHTS, expected.d_bias.sum_to_size(bias.sizes()),
                  expected.d_bias_bound.sum_to_size(bias.sizes()), test.sizes, "dbias");
  }
  if (expected.d_sinks.defined()) {
    expect_within(flex.gradients.d_sinks_H, expected.d_sinks, expected.d_sinks_bound, test.sizes,
                  "dsinks");
  }
}

Case random_case(uint32_t seed) {
  const int64_t max_tokens = seed % 10 == 0 ? 300 : 60;
  RandomRules random(seed, max_tokens);
  Case test{.mask = create_block_mask(none(), {.q_len = 1, .kv_len = 1})};
  constexpr int64_t kDims[] = {1, 8, 16, 20, 32, 40, 64, 72, 128, 192};
  const auto dim = [&] { return kDims[random.uniform(0, std::size(kDims) - 1)]; };
  test.sizes = {.q_len = random.uniform(1, max_tokens), .kv_len = random.uniform(1, max_tokens)};
  test.sizes.kv_heads = int64_t{1} << random.uniform(0, 2);
  test.sizes.head_dim = dim();
  test.sizes.value_dim = random.uniform(0, 1) == 0 ? dim() : test.sizes.head_dim;
  const MaskMod rule = random.rule(/*batch=*/2, 3).rule;
  constexpr int64_t kBlocks[] = {32, 33, 48, 64, 70, 128, 200};
  const auto block = [&] { return kBlocks[random.uniform(0, std::size(kBlocks) - 1)]; };
  const MaskShape shape{.batch = rule.batch_size(),
                        .q_len = test.sizes.q_len,
                        .kv_len = test.sizes.kv_len,
                        .block = {block(), block()}};
  test.mask = create_block_mask(rule, shape);
  test.inputs = random_inputs(test.sizes, at::kBFloat16);
  if (random.uniform(0, 2) == 0) test.options.scale = 0.3;
  if (random.uniform(0, 2) == 0) test.options.soft_cap = 2.0;
  if (random.uniform(0, 2) == 0) test.options.sinks_H = at::randn({test.sizes.heads});
  if (random.uniform(0, 2) == 0) test.options.alibi_slopes_H = at::rand({test.sizes.heads}) * 0.1;
  if (random.uniform(0, 2) == 0) {
    test.options.bias_BHTS = at::randn({1, test.sizes.heads, 1, test.sizes.kv_len});
  }
  return test;
}

TEST(FlexBf16Test, EqualsEagerOnRandomMasksAndOptions) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    expect_equals_eager(random_case(seed));
    if (HasFailure()) return;
  }
}

// Blocks of the default size, with full runs, diagonals and document bounds inside tiles.
Case packed_rows() {
  constexpr int64_t kTokens = 500;
  RandomRules random(1, kTokens);
  const MaskMod rule = causal() & document(random.document_ids(2, 300));
  const AttentionSizes sizes{.q_len = kTokens, .kv_len = kTokens, .head_dim = 64, .value_dim = 64};
  return {sizes,
          random_inputs(sizes, at::kBFloat16),
          create_block_mask(rule, {.batch = 2, .q_len = kTokens, .kv_len = kTokens}),
          {}};
}

TEST(FlexBf16Test, EqualsEagerOnPackedRowsOfDefaultBlocks) { expect_equals_eager(packed_rows()); }

// Rounding must be what the products see: the same kernels without them give float32's result.
TEST(FlexBf16Test, RoundsProbabilities) {
  const Case test = packed_rows();
  flex::TileKernels float32 = bf16_kernels();
  float32.bf16 = nullptr;
  const at::Tensor rounded = run_flex(test, bf16_kernels()).result.out_BTHE;
  const at::Tensor exact = run_flex(test, float32).result.out_BTHE;
  EXPECT_GT(testing::max_abs(rounded - exact), 0x1p-13 * testing::max_abs(exact));
}

TEST(FlexBf16Test, CanBeRefusedAndLeavesSmallBlocksAlone) {
  Case test = packed_rows();
  const auto multiplies = [&](const BlockMask& mask, bool allowed, at::ScalarType dtype) {
    return flex::multiplies_in_bf16({.q_BTHD = test.inputs.q_BTHD.to(dtype),
                                     .k_BSKD = test.inputs.k_BSKD,
                                     .v_BSKE = test.inputs.v_BSKE,
                                     .bf16_products = allowed},
                                    mask, bf16_kernels());
  };
  EXPECT_TRUE(multiplies(test.mask, true, at::kBFloat16));
  EXPECT_FALSE(multiplies(test.mask, false, at::kBFloat16));
  EXPECT_FALSE(multiplies(test.mask, true, at::kFloat));
  const BlockMask small =
      create_block_mask(causal(), {.q_len = 500, .kv_len = 500, .block = {16, 128}});
  EXPECT_FALSE(multiplies(small, true, at::kBFloat16));
}

// Views and expanded tensors, whose strides are not those of a tensor of its own.
TEST(FlexBf16Test, TakesStridedInputs) {
  Case test = packed_rows();
  const AttentionInputs in = test.inputs;
  const Flex own = run_flex(test, bf16_kernels());
  const auto turned = [](const at::Tensor& x) {
    return x.detach().transpose(1, 3).contiguous().transpose(1, 3);
  };
  test.inputs = {turned(in.q_BTHD), turned(in.k_BSKD), turned(in.v_BSKE), in.d_out_BTHE};
  const Flex strided = run_flex(test, bf16_kernels());
  EXPECT_TRUE(strided.result.out_BTHE.equal(own.result.out_BTHE));
  EXPECT_TRUE(strided.gradients.d_q_BTHD.equal(own.gradients.d_q_BTHD));
  EXPECT_TRUE(strided.gradients.d_k_BSKD.equal(own.gradients.d_k_BSKD));
  EXPECT_TRUE(strided.gradients.d_v_BSKE.equal(own.gradients.d_v_BSKE));
  test.inputs.d_out_BTHE = at::ones({1, 1, 1, 1}, at::kBFloat16).expand(in.d_out_BTHE.sizes());
  const Flex expanded = run_flex(test, bf16_kernels());
  test.inputs.d_out_BTHE = test.inputs.d_out_BTHE.contiguous();
  EXPECT_TRUE(expanded.gradients.d_v_BSKE.equal(run_flex(test, bf16_kernels()).gradients.d_v_BSKE));
}

TEST(FlexBf16Test, BitwiseEqualForAnyNumberOfThreads) {
  const int threads_before = at::get_num_threads();
  const Case test = packed_rows();
  at::set_num_threads(1);
  const Flex one = run_flex(test, bf16_kernels());
  for (const int threads : {2, 4, 8}) {
    at::set_num_threads(threads);
    const Flex many = run_flex(test, bf16_kernels());
    EXPECT_TRUE(many.result.out_BTHE.equal(one.result.out_BTHE)) << threads;
    EXPECT_TRUE(many.gradients.d_q_BTHD.equal(one.gradients.d_q_BTHD)) << threads;
    EXPECT_TRUE(many.gradients.d_k_BSKD.equal(one.gradients.d_k_BSKD)) << threads;
    EXPECT_TRUE(many.gradients.d_v_BSKE.equal(one.gradients.d_v_BSKE)) << threads;
  }
  at::set_num_threads(threads_before);
}

}  // namespace
}  // namespace tessera
