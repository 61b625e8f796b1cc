// Every feature of every built-in backend is tried: what the data says is what the functions do.
#include "attention/op/capabilities.h"

#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "attention/registry/registry.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using enum AttentionFeature;
using testing::AttentionInputs;
using testing::backend;
using testing::leaf;
using testing::random_inputs;

BlockMask mask_10() { return create_block_mask(causal(), {.q_len = 10, .kv_len = 10}); }

// The options of a call that needs this feature and the features that it implies.
AttentionOptions options_with(AttentionFeature feature, at::ScalarType dtype) {
  AttentionOptions options;
  if (feature == kSoftCap) options.soft_cap = 5.0;
  if (feature == kSinks) options.sinks_H = at::randn({4}).to(dtype);
  if (feature == kBias) options.bias_BHTS = at::randn({1, 4, 10, 10}).to(dtype);
  if (feature == kBiasGradient) options.bias_BHTS = leaf(at::randn({1, 4, 10, 10}).to(dtype));
  if (feature == kAlibi) options.alibi_slopes_H = at::full({4}, 0.5).to(dtype);
  if (feature == kAlibiGradient) options.alibi_slopes_H = leaf(at::full({4}, 0.5).to(dtype));
  options.return_lse = feature == kReturnLse;
  options.return_weights = feature == kReturnWeights;
  return options;
}

void expect_works(const std::string& name, AttentionFeature feature, at::ScalarType dtype) {
  const AttentionInputs in = random_inputs({.value_dim = feature == kValueDim ? 5 : 8}, dtype);
  const AttentionOptions options = options_with(feature, dtype);
  const AttentionOutput output = backend(name)(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask_10(), options);
  EXPECT_TRUE(output.out_BTHE.isfinite().all().item<bool>());
  EXPECT_EQ(output.lse_BHT.defined(), feature == kReturnLse);
  EXPECT_EQ(output.weights_BHTS.defined(), feature == kReturnWeights);
  output.out_BTHE.backward(in.d_out_BTHE);
  EXPECT_TRUE(in.q_BTHD.grad().isfinite().all().item<bool>());
  if (feature == kBiasGradient) {
    EXPECT_GT(testing::max_abs(options.bias_BHTS.grad()), 0);
  }
  if (feature == kAlibiGradient) {
    EXPECT_GT(testing::max_abs(options.alibi_slopes_H.grad()), 0);
  }
}

TEST(CapabilitiesTest, BackendsDoWhatTheyDeclareAndRefuseTheRest) {
  const AttentionRegistry registry = AttentionRegistry::with_builtins();
  for (const std::string& name : registry.names()) {
    const AttentionCapabilities& can = registry.get(name).capabilities;
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
      const bool has_dtype =
          std::find(can.dtypes.begin(), can.dtypes.end(), dtype) != can.dtypes.end();
      for (const AttentionFeature feature : all_attention_features()) {
        SCOPED_TRACE(name + " " + to_string(feature) + " " + toString(dtype));
        if (has_dtype && can.has(feature)) {
          expect_works(name, feature, dtype);
        } else {
          EXPECT_ERROR(expect_works(name, feature, dtype),
                       "attention backend \"" + name + "\": ", "; use \"eager\"");
        }
      }
    }
  }
}

TEST(CapabilitiesTest, RefusalsSayWhyAndWhoCan) {
  const at::Tensor x = at::randn({1, 10, 4, 8});
  EXPECT_ERROR(backend("sdpa")(x, x, x, mask_10(), {.soft_cap = 5.0}), "\"sdpa\"",
               "options.soft_cap: LibTorch's scaled_dot_product_attention cannot do it",
               "use \"eager\" or \"flex\"");
  AttentionOptions weights{.soft_cap = 5.0};
  weights.return_weights = true;
  EXPECT_ERROR(backend("flex")(x, x, x, mask_10(), weights),
               "options.return_weights: the weights never exist as a whole; use \"eager\"");
  const at::Tensor on_meta = x.to(at::kMeta);
  EXPECT_ERROR(backend("flex")(on_meta, on_meta, on_meta, mask_10()), "\"flex\"",
               "device: got tensors on meta, expected one of: cpu", "use \"eager\" or \"sdpa\"");
  const at::Tensor x64 = x.to(at::kDouble);
  EXPECT_ERROR(backend("flex")(x64, x64, x64, mask_10()),
               "dtype: got Double, expected one of: Float, BFloat16, Half");
}

AttentionOutput values_alone(const at::Tensor&, const at::Tensor&, const at::Tensor& v_BSKE,
                             const BlockMask&, const AttentionOptions&) {
  return {.out_BTHE = v_BSKE};
}

TEST(CapabilitiesTest, WhatABackendDoesNotDeclareItIsNotAskedFor) {
  AttentionRegistry registry;
  registry.add({.name = "values_alone", .function = values_alone});
  registry.add({.name = "inference", .function = values_alone, .capabilities = {.features = {}}});
  const at::Tensor x = at::randn({1, 10, 4, 8});
  EXPECT_ERROR(registry.make("values_alone")(x, x, x, mask_10(), {.soft_cap = 5.0}),
               "options.soft_cap: not supported; no registered backend can");
  EXPECT_ERROR(registry.make("inference")(leaf(x), x, x, mask_10()), "gradient: not supported",
               "use \"values_alone\"");
  const c10::AutoGradMode no_grad(false);
  EXPECT_TRUE(registry.make("inference")(leaf(x), x, x, mask_10()).out_BTHE.equal(x));
}

// A backend whose masks come in another form is no way out.
TEST(CapabilitiesTest, OnlyBackendsOfTheSameMaskFormAreNamed) {
  AttentionRegistry registry;
  registry.add({.name = "values_alone", .function = values_alone});
  registry.add({.name = "capped",
                .function = values_alone,
                .mask_form = "none",
                .capabilities = {.features = {kSoftCap}}});
  const at::Tensor x = at::randn({1, 10, 4, 8});
  EXPECT_ERROR(registry.make("values_alone")(x, x, x, mask_10(), {.soft_cap = 5.0}),
               "no registered backend can");
}

}  // namespace
}  // namespace tessera
