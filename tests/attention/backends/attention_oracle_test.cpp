// All cases of area 2 of the oracles; see tests/golden/attention/README.md.
//
// Tolerances. The oracle states, per result, the largest error of the plain formula run wholly in
// the case's dtype: a backend that computes in that dtype may be off by four times as much (two for
// half types, where a few roundings make up all of it). Where that is not stated or the backend
// computes in a longer dtype `c` (float64, or float32 for half inputs), the bound is derived: a
// score of size s is a sum of D products, so it is off by at most about D eps(c) s; exp turns that
// into a relative error of the weights, to which sums over up to S keys add S eps(c). Results are
// sums of such weights times terms that may cancel: 4 eps(c) (D max(1, s) + S) of the largest term.
// Every result is rounded once to the dtype that it is stored in, by half its epsilon.
#include <gtest/gtest.h>

#include <cmath>

#include "attention/backends/flex/tile_kernels.h"
#include "tests/attention/masks/reference_masks.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/support/golden.h"
#include "tests/support/golden_tensors.h"

namespace tessera {
namespace {

using nlohmann::json;
using testing::backend;
using testing::block_mask_from_dense;
using testing::epsilon;
using testing::expect_close;
using testing::expect_zero_and_finite;
using testing::golden;
using testing::GoldenTensors;
using testing::leaf;
using testing::max_abs;
using testing::read_json;

at::ScalarType dtype_of(const json& c) {
  const std::string name = c["dtype"];
  if (name == "float64") return at::kDouble;
  if (name == "float32") return at::kFloat;
  return name == "bfloat16" ? at::kBFloat16 : at::kHalf;
}

struct OracleCase {
  const json& c;
  const GoldenTensors& tensors;
  std::string name = c["name"];

  bool has(const char* tensor) const { return tensors.has(name + "/" + tensor); }
  at::Tensor get(const char* tensor) const { return tensors.get(name + "/" + tensor); }
  // The oracle's [B, H, T, D] as our [B, T, H, D].
  at::Tensor by_token(const char* tensor) const { return get(tensor).transpose(1, 2); }

  BlockMask mask(BlockSize block) const {
    const auto shape = c["expected"]["mask_shape"].get<std::vector<int64_t>>();
    return block_mask_from_dense(tensors.bits(name + "/mask", shape), block);
  }
  double scale() const { return c["scale"]; }
};

struct OracleLeaves {
  at::Tensor q_BTHD;
  at::Tensor k_BSKD;
  at::Tensor v_BSKE;
  AttentionOptions options;
};

OracleLeaves leaves_of(const OracleCase& oracle) {
  OracleLeaves leaves{leaf(oracle.by_token("q")),
                      leaf(oracle.by_token("k")),
                      leaf(oracle.by_token("v")),
                      {.scale = oracle.scale()}};
  const json& soft_cap = oracle.c["softcap"];
  if (!soft_cap.is_null()) leaves.options.soft_cap = soft_cap.get<double>();
  if (oracle.has("sinks")) leaves.options.sinks_H = leaf(oracle.get("sinks"));
  if (oracle.has("slopes")) leaves.options.alibi_slopes_H = oracle.get("slopes");
  if (oracle.has("bias")) {
    at::Tensor bias = oracle.get("bias");
    while (bias.dim() < 4) bias = bias.unsqueeze(0);
    leaves.options.bias_BHTS = leaf(bias);
  }
  return leaves;
}

class Tolerances {
 public:
  Tolerances(const OracleCase& oracle, bool computes_in_case_dtype)
      : stated_(oracle.c.value("same_dtype_error", json::object())),
        name_(oracle.name),
        dtype_(dtype_of(oracle.c)),
        computes_in_case_dtype_(computes_in_case_dtype) {
    const auto heads = [&](const char* tensor) {
      const at::Tensor x = oracle.get(tensor).to(at::kDouble);
      return x.repeat_interleave(oracle.get("q").size(1) / x.size(1), 1);
    };
    const at::Tensor q = heads("q");
    const at::Tensor k = heads("k");
    const double score = max_abs(q.matmul(k.transpose(2, 3))) * std::abs(oracle.scale());
    const double d_weight = max_abs(heads("d_out").matmul(heads("v").transpose(2, 3)));
    const double eps = epsilon(dtype_ == at::kDouble ? at::kDouble : at::kFloat);
    noise_ = 4 * eps * (q.size(3) * std::max(1.0, score) + k.size(2));
    gradient_term_ = d_weight * std::max(1.0, oracle.scale() * std::max(max_abs(q), max_abs(k)));
  }

  void expect(const at::Tensor& actual, const std::string& what, const at::Tensor& expected) const {
    const bool is_gradient = what.front() == 'd';
    const double term = std::max(max_abs(expected.masked_fill(expected.isinf(), 0.0)),
                                 is_gradient ? gradient_term_ : 0.0);
    double absolute = noise_ * term;
    if (computes_in_case_dtype_ && stated_.contains(what)) {
      absolute = (dtype_ == at::kFloat ? 4 : 2) * stated_[what].get<double>();
      // Kernels that take out . d_out for the sum of weight gradients cancel up to a rounding only.
      if (is_gradient) absolute += epsilon(at::kFloat) * gradient_term_;
    }
    const double relative = dtype_ == at::kDouble ? 0.0 : epsilon(dtype_) / 2;
    expect_close(actual, expected, absolute, relative, name_ + " " + what);
  }

 private:
  json stated_;
  std::string name_;
  at::ScalarType dtype_;
  bool computes_in_case_dtype_;
  double noise_ = 0;
  double gradient_term_ = 0;
};

void expect_gradients(const OracleCase& oracle, const OracleLeaves& leaves,
                      const Tolerances& tolerances) {
  tolerances.expect(leaves.q_BTHD.grad(), "dq", oracle.by_token("dq"));
  tolerances.expect(leaves.k_BSKD.grad(), "dk", oracle.by_token("dk"));
  tolerances.expect(leaves.v_BSKE.grad(), "dv", oracle.by_token("dv"));
  if (oracle.has("dsinks")) {
    tolerances.expect(leaves.options.sinks_H.grad(), "dsinks", oracle.get("dsinks"));
  }
  if (oracle.has("dbias")) {
    const at::Tensor gradient = leaves.options.bias_BHTS.grad();
    tolerances.expect(gradient, "dbias", oracle.get("dbias").view(gradient.sizes()));
  }
}

void expect_empty_rows(const BlockMask& mask, const OracleLeaves& leaves,
                       const AttentionOutput& output) {
  const at::Tensor is_empty_BHT1 = mask.to_dense().any(3, /*keepdim=*/true).logical_not();
  const at::Tensor has_keys_BT11 = is_empty_BHT1.all(1, true).transpose(1, 2).logical_not();
  expect_zero_and_finite(output.out_BTHE.masked_fill(has_keys_BT11, 0.0), "out of empty rows");
  expect_zero_and_finite(leaves.q_BTHD.grad().masked_fill(has_keys_BT11, 0.0), "dq of empty rows");
}

// A backend with every option, on one case.
void expect_case(const std::string& name, const OracleCase& oracle, bool computes_in_case_dtype) {
  OracleLeaves leaves = leaves_of(oracle);
  leaves.options.return_lse = true;
  const BlockMask mask = oracle.mask({.q = 16, .kv = 8});
  const AttentionOutput output =
      backend(name)(leaves.q_BTHD, leaves.k_BSKD, leaves.v_BSKE, mask, leaves.options);
  at::Tensor loss =
      (output.out_BTHE.to(at::kDouble) * oracle.by_token("d_out").to(at::kDouble)).sum();
  if (oracle.has("d_lse")) {
    const at::Tensor no_keys = output.lse_BHT.isinf();
    const at::Tensor lse = output.lse_BHT.masked_fill(no_keys, 0.0);
    loss = loss + (lse * oracle.get("d_lse")).sum();
  }
  loss.backward();

  const Tolerances tolerances(oracle, computes_in_case_dtype);
  EXPECT_EQ(output.out_BTHE.scalar_type(), dtype_of(oracle.c));
  tolerances.expect(output.out_BTHE, "out", oracle.by_token("out"));
  if (oracle.has("lse")) tolerances.expect(output.lse_BHT, "lse", oracle.get("lse"));
  expect_gradients(oracle, leaves, tolerances);
  expect_empty_rows(mask, leaves, output);
}

TEST(AttentionOracleTest, EagerEqualsEveryCase) {
  const json cases = read_json(golden("attention/attention.json"))["cases"];
  const GoldenTensors tensors(golden("attention/attention.safetensors"));
  ASSERT_EQ(cases.size(), 54U);
  for (const json& c : cases) {
    const OracleCase oracle{c, tensors};
    SCOPED_TRACE(oracle.name);
    expect_case("eager", oracle, /*computes_in_case_dtype=*/dtype_of(c) == at::kFloat);
  }
}

TEST(AttentionOracleTest, FlexEqualsEveryCaseUpToFloat32) {
  const json cases = read_json(golden("attention/attention.json"))["cases"];
  const GoldenTensors tensors(golden("attention/attention.safetensors"));
  int num_run = 0;
  for (const json& c : cases) {
    if (dtype_of(c) == at::kDouble) continue;
    const OracleCase oracle{c, tensors};
    SCOPED_TRACE(oracle.name);
    ++num_run;
    const bool multiplies_bf16 = flex::tile_kernels().bf16 != nullptr;
    expect_case("flex", oracle, dtype_of(c) == at::kBFloat16 && multiplies_bf16);
  }
  EXPECT_EQ(num_run, 51);
}

TEST(AttentionOracleTest, SdpaEqualsWhatItCanExpress) {
  const json cases = read_json(golden("attention/attention.json"))["cases"];
  const GoldenTensors tensors(golden("attention/attention.safetensors"));
  int num_run = 0;
  for (const json& c : cases) {
    const OracleCase oracle{c, tensors};
    if (!c["softcap"].is_null() || oracle.has("sinks") || oracle.has("slopes") ||
        oracle.has("d_lse")) {
      continue;
    }
    SCOPED_TRACE(oracle.name);
    ++num_run;
    const OracleLeaves leaves = leaves_of(oracle);
    const BlockMask mask = oracle.mask({.q = 16, .kv = 8});
    const AttentionOutput output =
        backend("sdpa")(leaves.q_BTHD, leaves.k_BSKD, leaves.v_BSKE, mask, leaves.options);
    output.out_BTHE.backward(oracle.by_token("d_out").to(dtype_of(c)));

    const Tolerances tolerances(oracle, /*computes_in_case_dtype=*/dtype_of(c) != at::kDouble);
    tolerances.expect(output.out_BTHE, "out", oracle.by_token("out"));
    expect_gradients(oracle, leaves, tolerances);
    expect_empty_rows(mask, leaves, output);
  }
  EXPECT_GE(num_run, 30);
}

}  // namespace
}  // namespace tessera
