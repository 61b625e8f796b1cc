// Helpers of the tests of attention backends: random inputs, backends by name, and comparisons with
// tolerances. Internal to tests.
//
//   const AttentionInputs in = random_inputs({.q_len = 20}, at::kFloat);
//   const at::Tensor out = backend("flex")(in.q_BTHD, in.k_BSKD, in.v_BSKE, mask).out_BTHE;
//   out.backward(in.d_out_BTHE);       // gradients are in in.q_BTHD.grad(), ...
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <string>

#include "attention/op/attention.h"
#include "attention/registry/registry.h"

namespace tessera::testing {

struct AttentionSizes {
  int64_t batch = 2;
  int64_t q_len = 10;
  int64_t kv_len = 10;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 8;
  int64_t value_dim = 8;
};

// A copy of x that collects a gradient of its own.
inline at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

// Inputs of one call (leaves of autograd) and a gradient of its output.
struct AttentionInputs {
  at::Tensor q_BTHD;
  at::Tensor k_BSKD;
  at::Tensor v_BSKE;
  at::Tensor d_out_BTHE;

  // The same values as new leaves, so that the gradients of two backends do not meet.
  AttentionInputs fresh() const { return {leaf(q_BTHD), leaf(k_BSKD), leaf(v_BSKE), d_out_BTHE}; }
};

// Standard normal inputs from LibTorch's generator, drawn in float64 and rounded to `dtype`.
inline AttentionInputs random_inputs(const AttentionSizes& sizes, at::ScalarType dtype) {
  const auto randn = [&](int64_t length, int64_t heads, int64_t dim) {
    return at::randn({sizes.batch, length, heads, dim}, at::kDouble).to(dtype);
  };
  return {leaf(randn(sizes.q_len, sizes.heads, sizes.head_dim)),
          leaf(randn(sizes.kv_len, sizes.kv_heads, sizes.head_dim)),
          leaf(randn(sizes.kv_len, sizes.kv_heads, sizes.value_dim)),
          randn(sizes.q_len, sizes.heads, sizes.value_dim)};
}

inline AttentionOp backend(const std::string& name) {
  return AttentionRegistry::with_builtins().make(name);
}

// The distance from 1 to the next number of a floating point type.
inline double epsilon(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return 0x1p-52;
    case at::kFloat:
      return 0x1p-23;
    case at::kHalf:
      return 0x1p-10;
    default:
      return 0x1p-7;  // bfloat16
  }
}

// The largest magnitude in x, or 0 without elements.
inline double max_abs(const at::Tensor& x) {
  return x.numel() == 0 ? 0.0 : x.detach().to(at::kDouble).abs().max().item<double>();
}

// Expects |actual - expected| <= absolute + relative * |expected| of every element, infinities in
// the same places, and no NaN.
inline void expect_close(const at::Tensor& actual, const at::Tensor& expected, double absolute,
                         double relative, const std::string& what) {
  ASSERT_TRUE(actual.defined()) << what;
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const at::Tensor a = actual.detach().to(at::kDouble);
  const at::Tensor e = expected.detach().to(at::kDouble);
  EXPECT_TRUE(a.isinf().equal(e.isinf())) << what;
  const at::Tensor error = (a - e).abs().masked_fill(e.isinf(), 0.0);
  const at::Tensor bound = e.abs().masked_fill(e.isinf(), 0.0) * relative + absolute;
  EXPECT_TRUE((error <= bound).all().item<bool>())
      << what << ": largest error " << max_abs(error) << ", allowed " << absolute << " + "
      << relative << " * |x|, |x| up to " << max_abs(e.masked_fill(e.isinf(), 0.0));
}

inline void expect_zero_and_finite(const at::Tensor& x, const std::string& what) {
  EXPECT_EQ(max_abs(x), 0.0) << what;  // NaN fails as well
}

}  // namespace tessera::testing
