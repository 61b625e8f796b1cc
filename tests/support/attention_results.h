// Everything that a call of attention gives, with gradients, and its comparison.
//
//   const AttentionResults got = run_attention("flex", inputs, mask);
//   expect_same(got, run_attention("eager", inputs, mask, {}, at::kDouble), {.absolute = 1e-5});
//
// Shape legend: as in attention.h.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "tests/attention/op/attention_cases.h"

namespace tessera::testing {

// What the call does not give or take is undefined.
struct AttentionResults {
  at::Tensor out_BTHE{};
  at::Tensor lse_BHT{};
  at::Tensor dq_BTHD{};
  at::Tensor dk_BSKD{};
  at::Tensor dv_BSKE{};
  at::Tensor d_sinks_H{};
  at::Tensor d_bias_BHTS{};
};

// The gradients are those of a loss that reads out and, where it is returned, lse. The op computes
// in `dtype`, or else in the inputs' dtype, from the values that inputs and options have in the
// inputs' dtype. The inputs' own gradients stay as they are.
inline AttentionResults run_attention(const AttentionOp& op, const AttentionInputs& inputs,
                                      const BlockMask& mask, AttentionOptions options = {},
                                      std::optional<at::ScalarType> dtype = {}) {
  const at::ScalarType value_type = inputs.q_BTHD.scalar_type();
  const auto cast = [&](const at::Tensor& x) {
    return leaf(x.detach().to(value_type).to(dtype.value_or(value_type)));
  };
  const at::Tensor q = cast(inputs.q_BTHD);
  const at::Tensor k = cast(inputs.k_BSKD);
  const at::Tensor v = cast(inputs.v_BSKE);
  if (options.sinks_H.defined()) options.sinks_H = cast(options.sinks_H);
  if (options.bias_BHTS.defined()) options.bias_BHTS = cast(options.bias_BHTS);
  const AttentionOutput output = op(q, k, v, mask, options);
  const at::Tensor d_out = inputs.d_out_BTHE.to(at::kDouble);
  at::Tensor loss = (output.out_BTHE.to(at::kDouble) * d_out).sum();
  AttentionResults results{.out_BTHE = output.out_BTHE.detach()};
  if (output.lse_BHT.defined()) {
    const at::Tensor lse = output.lse_BHT.masked_fill(output.lse_BHT.isinf(), 0.0);
    loss = loss + (lse.to(at::kDouble) * d_out.select(3, 0).transpose(1, 2)).sum();
    results.lse_BHT = output.lse_BHT.detach();
  }
  loss.backward();
  results.dq_BTHD = q.grad();
  results.dk_BSKD = k.grad();
  results.dv_BSKE = v.grad();
  if (options.sinks_H.defined()) results.d_sinks_H = options.sinks_H.grad();
  if (options.bias_BHTS.defined()) results.d_bias_BHTS = options.bias_BHTS.grad();
  return results;
}

inline AttentionResults run_attention(const std::string& name, const AttentionInputs& inputs,
                                      const BlockMask& mask, const AttentionOptions& options = {},
                                      std::optional<at::ScalarType> dtype = {}) {
  return run_attention(backend(name), inputs, mask, options, dtype);
}

struct ResultTolerance {
  double absolute = 0.0;
  double relative = 0.0;

  // `absolute` counts for results up to 1, and grows with each result's largest element above.
  bool grows_with_result = false;
};

// Compares each result that `expected` holds.
inline void expect_same(const AttentionResults& actual, const AttentionResults& expected,
                        const ResultTolerance& tolerance) {
  const auto expect = [&](const at::Tensor& a, const at::Tensor& e, const char* what) {
    if (!e.defined()) return;
    double absolute = tolerance.absolute;
    if (tolerance.grows_with_result) {
      absolute *= std::max(1.0, max_abs(e.masked_fill(e.isinf(), 0.0)));
    }
    expect_close(a, e, absolute, tolerance.relative, what);
  };
  expect(actual.out_BTHE, expected.out_BTHE, "out");
  expect(actual.lse_BHT, expected.lse_BHT, "lse");
  expect(actual.dq_BTHD, expected.dq_BTHD, "dq");
  expect(actual.dk_BSKD, expected.dk_BSKD, "dk");
  expect(actual.dv_BSKE, expected.dv_BSKE, "dv");
  expect(actual.d_sinks_H, expected.d_sinks_H, "dsinks");
  expect(actual.d_bias_BHTS, expected.d_bias_BHTS, "dbias");
}

// Rows without a key give 0, gradient 0 and, where lse is there, lse -inf.
inline void expect_empty_rows(const AttentionResults& results, const BlockMask& mask) {
  const at::Tensor has_keys_BHT1 = mask.to_dense().any(3, /*keepdim=*/true);
  const at::Tensor has_keys_BTH1 = has_keys_BHT1.transpose(1, 2);
  expect_zero_and_finite(results.out_BTHE.masked_fill(has_keys_BTH1, 0.0), "out of empty rows");
  expect_zero_and_finite(results.dq_BTHD.masked_fill(has_keys_BTH1, 0.0), "dq of empty rows");
  if (!results.lse_BHT.defined()) return;
  const at::Tensor is_empty_BHT = has_keys_BHT1.squeeze(3).logical_not();
  EXPECT_TRUE(results.lse_BHT.isinf().equal(is_empty_BHT.expand_as(results.lse_BHT)));
}

}  // namespace tessera::testing
