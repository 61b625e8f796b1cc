// `sdpa` against `eager`, the oracle.
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "attention/masks/mask_fn.h"
#include "tests/attention/masks/reference_masks.h"
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
using testing::expect_zero_and_finite;
using testing::random_inputs;
using testing::RandomRules;
using testing::ResultTolerance;
using testing::run_attention;

// As derived in attention_oracle_test.cpp, for both backends: scores of randn inputs stay below 8.
// The unit of a dtype shorter than float32 also rounds weights, out and gradients on the way, once
// each per term.
ResultTolerance sdpa_tolerance(const AttentionSizes& sizes, at::ScalarType dtype) {
  const double terms = dtype == at::kDouble || dtype == at::kFloat
                           ? 8.0 * static_cast<double>(8 * sizes.head_dim + sizes.kv_len)
                           : 8.0;
  return {.absolute = terms * epsilon(dtype), .grows_with_result = true};
}

TEST(SdpaAttentionTest, EqualsEagerOnRandomMasks) {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRules random(seed, 40);
    constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};
    const at::ScalarType dtype = kTypes[seed % 4];
    AttentionSizes sizes{.q_len = random.uniform(1, 40), .kv_len = random.uniform(1, 40)};
    sizes.kv_heads = int64_t{1} << random.uniform(0, 2);
    sizes.value_dim = random.uniform(0, 2) == 0 ? 5 : sizes.head_dim;
    const MaskMod rule = random.rule(/*batch=*/2, 3).rule;
    SCOPED_TRACE(rule.to_string());
    const BlockMask mask = create_block_mask(rule, {.batch = rule.batch_size(),
                                                    .q_len = sizes.q_len,
                                                    .kv_len = sizes.kv_len,
                                                    .block = {.q = 16, .kv = 8}});
    const AttentionInputs in = random_inputs(sizes, dtype);
    const AttentionResults sdpa = run_attention("sdpa", in, mask);
    expect_same(sdpa, run_attention("eager", in, mask), sdpa_tolerance(sizes, dtype));
    expect_empty_rows(sdpa, mask);
  }
}

TEST(SdpaAttentionTest, TakesMasksPerHead) {
  const at::Tensor allowed = at::rand({2, 4, 10, 10}) < 0.5;
  const BlockMask mask = testing::block_mask_from_dense(allowed, {.q = 4, .kv = 4});
  const AttentionInputs in = random_inputs({}, at::kDouble);
  expect_same(run_attention("sdpa", in, mask), run_attention("eager", in, mask),
              sdpa_tolerance({}, at::kDouble));
}

// Every path of LibTorch behind the backend (fused and unfused, each dtype) on rows without a key.
TEST(SdpaAttentionTest, EmptyRowsAreZeroWithExactlyZeroGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    for (const int64_t value_dim : {8, 5}) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(std::string(toString(dtype)) + " value_dim " + std::to_string(value_dim) +
                     (with_bias ? " bias" : ""));
        const at::Tensor allowed = at::rand({2, 1, 10, 10}) < 0.4;
        allowed.select(2, 3).fill_(false);
        allowed.select(2, 9).fill_(false);
        const AttentionInputs in = random_inputs({.value_dim = value_dim}, dtype);
        for (const at::Tensor& elements : {allowed, at::zeros_like(allowed)}) {
          AttentionOptions options;
          if (with_bias) options.bias_BHTS = at::randn({1, 4, 10, 10});
          const BlockMask mask = testing::block_mask_from_dense(elements, {.q = 4, .kv = 4});
          const AttentionResults results = run_attention("sdpa", in, mask, options);
          expect_empty_rows(results, mask);
          EXPECT_TRUE(results.dk_BSKD.isfinite().all().item<bool>());
          EXPECT_TRUE(results.dv_BSKE.isfinite().all().item<bool>());
          if (with_bias) {
            const at::Tensor nobody = elements.any(0, /*keepdim=*/true).logical_not();
            const at::Tensor& d_bias = results.d_bias_BHTS;
            EXPECT_TRUE(d_bias.isfinite().all().item<bool>());
            expect_zero_and_finite(d_bias.masked_fill(nobody.logical_not(), 0.0), "dbias");
          }
        }
      }
    }
  }
}

TEST(SdpaAttentionTest, BiasEqualsEager) {
  const AttentionInputs in = random_inputs({}, at::kDouble);
  const std::vector<MaskMod> rules{causal(), full(), ~causal()};
  const std::vector<std::vector<int64_t>> shapes{
      {2, 4, 10, 10}, {1, 4, 10, 10}, {1, 4, 1, 10}, {2, 1, 10, 1}, {1, 1, 1, 1}};
  for (const MaskMod& rule : rules) {
    const BlockMask mask = create_block_mask(rule, {.q_len = 10, .kv_len = 10});
    for (const std::vector<int64_t>& shape : shapes) {
      SCOPED_TRACE(rule.to_string());
      const AttentionOptions options{.scale = 0.4, .bias_BHTS = at::randn(shape, at::kDouble)};
      AttentionResults sdpa = run_attention("sdpa", in, mask, options);
      AttentionResults eager = run_attention("eager", in, mask, options);
      expect_close(sdpa.d_bias_BHTS, eager.d_bias_BHTS, 1e-13, 0, "dbias");
      expect_same(sdpa, eager, sdpa_tolerance({}, at::kDouble));
    }
  }
}

struct CheapPath {
  const char* kernel;
  MaskMod rule;
  int64_t q_len;
  int64_t kv_len;
};

// Which way it takes is decided by the pairs of the mask, whatever rule they came from.
std::vector<CheapPath> cheap_paths() {
  const at::Tensor one_document = at::zeros({12}, at::kLong);
  const at::Tensor two_documents = at::zeros({12}, at::kLong);
  two_documents.slice(0, 11).fill_(1);
  return {
      {"is_causal", causal(), 12, 12},
      {"is_causal", causal() & document(one_document), 12, 12},
      {"is_causal", full() & ~(~causal()), 12, 12},
      {"is_causal", sliding_window({.right = 0}), 12, 12},
      {"is_causal", sliding_window({.left = 11, .right = 0}), 12, 12},
      // LibTorch's kernels do not agree on the corner where a mask that is not square begins.
      {"additive mask", causal(), 12, 7},
      {"additive mask", causal(), 7, 12},
      {"no mask", full(), 12, 9},
      {"no mask", causal() | ~causal(), 12, 12},
      {"no mask", document(one_document), 12, 12},
      {"no mask", offset(causal(), 11, 0), 1, 12},  // one query at the end of a cache
      {"additive mask", causal() & document(two_documents), 12, 12},
      {"additive mask", sliding_window({.left = 10, .right = 0}), 12, 12},  // one pair less
      {"additive mask",
       causal() |
           mask_fn("corner", {},
                   [](int64_t, int64_t, int64_t q, int64_t kv) { return q == 0 && kv == 11; }),
       12, 12},                                          // one pair more
      {"additive mask", offset(causal(), 5, 0), 7, 12},  // aligned at the last key
      {"additive mask", none(), 12, 12},
  };
}

TEST(SdpaAttentionTest, TakesTheCheapPathsExactlyWhenTheyAreEqual) {
  for (const CheapPath& path : cheap_paths()) {
    for (const BlockSize block : {BlockSize{.q = 128, .kv = 128}, {.q = 4, .kv = 8}}) {
      SCOPED_TRACE(path.rule.to_string() + " " + std::to_string(path.q_len) + " x " +
                   std::to_string(path.kv_len) + ", tiles of " + std::to_string(block.q));
      const BlockMask mask = create_block_mask(
          path.rule, {.q_len = path.q_len, .kv_len = path.kv_len, .block = block});
      const AttentionSizes sizes{.q_len = path.q_len, .kv_len = path.kv_len};
      const AttentionInputs in = random_inputs(sizes, at::kFloat);
      EXPECT_EQ(backend("sdpa")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask).kernel,
                std::string_view(path.kernel));
      expect_same(run_attention("sdpa", in, mask), run_attention("eager", in, mask),
                  sdpa_tolerance(sizes, at::kFloat));
    }
  }
}

TEST(SdpaAttentionTest, MasksPerRowAndHeadTakeTheCheapPathsToo) {
  const AttentionInputs in = random_inputs({}, at::kFloat);
  const auto kernel = [&](const BlockMask& mask) {
    return backend("sdpa")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask).kernel;
  };
  EXPECT_EQ(
      kernel(create_block_mask(causal(), {.batch = 2, .heads = 4, .q_len = 10, .kv_len = 10})),
      "is_causal");
  at::Tensor dense = at::ones({2, 4, 10, 10}, at::kBool).tril();
  EXPECT_EQ(kernel(testing::block_mask_from_dense(dense, {.q = 4, .kv = 4})), "is_causal");
  dense[1][3][9][0] = false;
  EXPECT_EQ(kernel(testing::block_mask_from_dense(dense, {.q = 4, .kv = 4})), "additive mask");
  // A bias must be added, so is_causal is not taken with one.
  const BlockMask mask = create_block_mask(causal(), {.q_len = 10, .kv_len = 10});
  const AttentionOptions options{.bias_BHTS = at::randn({1, 1, 10, 10})};
  EXPECT_EQ(backend("sdpa")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask, options).kernel,
            "additive mask");
}

// A packed row is its documents alone, and other documents' tokens do not matter, bit by bit.
TEST(SdpaAttentionTest, DocumentsDoNotLeak) {
  const at::Tensor ids = at::zeros({1, 24}, at::kLong);
  ids.slice(1, 9).fill_(1);
  const BlockMask mask = create_block_mask(causal() & document(ids), {.q_len = 24, .kv_len = 24});
  const AttentionInputs in = random_inputs({.batch = 1, .q_len = 24, .kv_len = 24}, at::kFloat);
  AttentionInputs changed = in.fresh();
  for (const at::Tensor& x : {changed.q_BTHD, changed.k_BSKD, changed.v_BSKE}) {
    x.detach().slice(1, 0, 9).add_(3.0);
  }
  for (const char* name : {"sdpa", "eager"}) {
    const at::Tensor whole = run_attention(name, in, mask).out_BTHE.slice(1, 9);
    EXPECT_TRUE(whole.equal(run_attention(name, changed, mask).out_BTHE.slice(1, 9))) << name;
    const AttentionInputs alone{in.q_BTHD.slice(1, 9), in.k_BSKD.slice(1, 9), in.v_BSKE.slice(1, 9),
                                in.d_out_BTHE.slice(1, 9)};
    const BlockMask causal_mask = create_block_mask(causal(), {.q_len = 15, .kv_len = 15});
    expect_close(whole, run_attention(name, alone, causal_mask).out_BTHE, 64 * epsilon(at::kFloat),
                 0, name);
  }
}

TEST(SdpaAttentionTest, BroadcastMasksEqualMasksPerRow) {
  const AttentionInputs in = random_inputs({.q_len = 12, .kv_len = 12}, at::kDouble);
  const at::Tensor ids = at::zeros({12}, at::kLong);
  ids.slice(0, 5).fill_(1);
  MaskShape shape{.q_len = 12, .kv_len = 12};
  const BlockMask one = create_block_mask(causal() & document(ids), shape);
  shape.batch = 2;
  shape.heads = 4;
  const BlockMask each = create_block_mask(causal() & document(ids), shape);
  for (const char* name : {"sdpa", "eager"}) {
    expect_same(run_attention(name, in, one), run_attention(name, in, each),
                sdpa_tolerance({}, at::kDouble));
  }
}

TEST(SdpaAttentionTest, RefusesWhatItCannotDoByName) {
  const at::Tensor x = at::zeros({1, 3, 2, 4});
  const BlockMask mask = create_block_mask(causal(), {.q_len = 3, .kv_len = 3});
  const auto attend = [&](const AttentionOptions& options) {
    backend("sdpa")(x, x, x, mask, options);
  };
  AttentionOptions lse;
  lse.return_lse = true;
  AttentionOptions weights;
  weights.return_weights = true;
  EXPECT_ERROR(attend({.soft_cap = 5.0}), "\"sdpa\"", "soft_cap", "\"eager\"");
  EXPECT_ERROR(attend({.sinks_H = at::zeros({2})}), "\"sdpa\"", "sinks_H", "\"eager\"");
  EXPECT_ERROR(attend({.alibi_slopes_H = at::zeros({2})}), "alibi_slopes_H", "\"eager\"");
  EXPECT_ERROR(attend(lse), "return_lse", "\"eager\"");
  EXPECT_ERROR(attend(weights), "return_weights", "\"eager\"");
}

}  // namespace
}  // namespace tessera
