#include "attention/op/attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "attention/backends/eager_attention.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

class AttentionOpTest : public ::testing::Test {
 protected:
  AttentionOutput attend() const { return op_(q_, k_, v_, mask_, options_); }

  AttentionOp op_ = testing::backend("eager");
  at::Tensor q_ = at::zeros({2, 5, 4, 8});
  at::Tensor k_ = at::zeros({2, 7, 2, 8});
  at::Tensor v_ = at::zeros({2, 7, 2, 6});
  BlockMask mask_ = create_block_mask(full(), {.q_len = 5, .kv_len = 7});
  AttentionOptions options_;
};

TEST_F(AttentionOpTest, PassesItsArgumentsOn) {
  const AttentionOp op("mine", [](const at::Tensor& q, const at::Tensor&, const at::Tensor&,
                                  const BlockMask& mask, const AttentionOptions& options) {
    EXPECT_EQ(mask.shape().kv_len, 7);
    EXPECT_EQ(options.scale, 0.5);
    return AttentionOutput{.out_BTHE = q + 1};
  });
  EXPECT_EQ(op.name(), "mine");
  EXPECT_TRUE(op(q_, k_, v_, mask_, {.scale = 0.5}).out_BTHE.equal(q_ + 1));
}

TEST_F(AttentionOpTest, OutputsAreWhatWasAskedFor) {
  options_.return_lse = true;
  options_.return_weights = true;
  const AttentionOutput output = attend();
  EXPECT_EQ(output.out_BTHE.sizes(), (std::vector<int64_t>{2, 5, 4, 6}));
  EXPECT_EQ(output.lse_BHT.sizes(), (std::vector<int64_t>{2, 4, 5}));
  EXPECT_EQ(output.weights_BHTS.sizes(), (std::vector<int64_t>{2, 4, 5, 7}));
  options_ = {};
  EXPECT_FALSE(attend().lse_BHT.defined());
  EXPECT_FALSE(attend().weights_BHTS.defined());
}

TEST_F(AttentionOpTest, RefusesShapesThatDoNotFit) {
  k_ = at::zeros({7, 2, 8});
  EXPECT_ERROR(attend(), "[2, 5, 4, 8]", "[7, 2, 8]", "k [B, S, K, D]");
  k_ = at::zeros({1, 7, 2, 8});
  EXPECT_ERROR(attend(), "batch", "[2, 5, 4, 8]", "[1, 7, 2, 8]");
  k_ = at::zeros({2, 6, 2, 8});
  EXPECT_ERROR(attend(), "keys and values", "[2, 6, 2, 8]", "[2, 7, 2, 6]");
  k_ = at::zeros({2, 7, 1, 8});
  EXPECT_ERROR(attend(), "keys and values", "[2, 7, 1, 8]");
  k_ = at::zeros({2, 7, 2, 9});
  EXPECT_ERROR(attend(), "head dim", "[2, 7, 2, 9]");
  k_ = at::zeros({2, 7, 3, 8});
  v_ = at::zeros({2, 7, 3, 6});
  EXPECT_ERROR(attend(), "heads", "4 query heads", "3 key heads");
  k_ = at::Tensor();
  EXPECT_ERROR(attend(), "undefined");
}

TEST_F(AttentionOpTest, RefusesMixedTypes) {
  k_ = k_.to(at::kDouble);
  EXPECT_ERROR(attend(), "dtype", "q Float", "k Double");
  q_ = q_.to(at::kLong);
  k_ = k_.to(at::kLong);
  v_ = v_.to(at::kLong);
  EXPECT_ERROR(attend(), "dtype", "Long", "floating point");
  q_ = at::zeros({2, 5, 4, 8});
  k_ = at::zeros({2, 7, 2, 8});
  v_ = at::empty({2, 7, 2, 6}, at::TensorOptions().device(at::kMeta));
  EXPECT_ERROR(attend(), "device", "q on cpu", "v on meta");
}

TEST_F(AttentionOpTest, RefusesMasksThatDoNotFit) {
  mask_ = create_block_mask(full(), {.q_len = 5, .kv_len = 5});
  EXPECT_ERROR(attend(), "mask lengths", "q_len 5, kv_len 5", "expected 5 and 7", "[2, 7, 2, 8]");
  mask_ = create_block_mask(full(), {.batch = 3, .q_len = 5, .kv_len = 7});
  EXPECT_ERROR(attend(), "mask batch", "got 3", "1 or 2");
  mask_ = create_block_mask(full(), {.heads = 2, .q_len = 5, .kv_len = 7});
  EXPECT_ERROR(attend(), "mask heads", "got 2", "1 or 4");
}

TEST_F(AttentionOpTest, RefusesBadOptions) {
  options_ = {.scale = std::numeric_limits<double>::infinity()};
  EXPECT_ERROR(attend(), "options.scale", "inf");
  options_ = {.soft_cap = 0.0};
  EXPECT_ERROR(attend(), "options.soft_cap", "got 0", "positive");
  options_ = {.sinks_H = at::zeros({2})};
  EXPECT_ERROR(attend(), "options.sinks_H", "[2]", "expected [4]");
  options_ = {.alibi_slopes_H = at::zeros({4, 1})};
  EXPECT_ERROR(attend(), "options.alibi_slopes_H", "[4, 1]", "expected [4]");
  options_ = {.bias_BHTS = at::zeros({4, 5, 7})};
  EXPECT_ERROR(attend(), "options.bias_BHTS", "[4, 5, 7]", "[2, 4, 5, 7]", "may be 1");
  options_ = {.bias_BHTS = at::zeros({2, 4, 5, 6})};
  EXPECT_ERROR(attend(), "options.bias_BHTS", "[2, 4, 5, 6]");
  options_ = {.sinks_H = at::zeros({4}, at::kLong)};
  EXPECT_ERROR(attend(), "options.sinks_H", "Long", "floating point");
}

struct OtherRanksPlan : MaskPlan {
  std::string kind() const override { return "context"; }
  std::string to_string() const override { return "rank 1 of 2"; }
  bool equals(const MaskPlan&) const override { return true; }
};

// Without the wrapper that fetches the other keys, the result would be silently wrong.
TEST_F(AttentionOpTest, RefusesAMaskWhosePlanItDoesNotRead) {
  mask_ = mask_.with_plan(std::make_shared<OtherRanksPlan>());
  EXPECT_ERROR(attend(), "attention \"", "context plan", "rank 1 of 2", "without");
}

TEST_F(AttentionOpTest, AnOperatorForPlansNeedsOne) {
  const AttentionOp op(
      "context(mine)",
      [](const at::Tensor& q, auto&&...) { return AttentionOutput{.out_BTHE = q}; }, "context");
  EXPECT_ERROR(op(q_, k_, v_, mask_), "context(mine)", "without a plan", "a context plan");
  EXPECT_TRUE(
      op(q_, k_, v_, mask_.with_plan(std::make_shared<OtherRanksPlan>())).out_BTHE.is_same(q_));
  const AttentionOp other("other", eager_attention, "paged");
  EXPECT_ERROR(other(q_, k_, v_, mask_.with_plan(std::make_shared<OtherRanksPlan>())),
               "context plan", "expected a paged plan");
}

TEST_F(AttentionOpTest, RefusesAMissingFunction) {
  EXPECT_ERROR(AttentionOp("mine", nullptr), "\"mine\"", "no function");
}

}  // namespace
}  // namespace tessera
