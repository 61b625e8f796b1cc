#include "attention/op/merge.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/masks/random_masks.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/support/errors.h"
#include "tests/support/numbers.h"

namespace tessera {
namespace {

using testing::backend;
using testing::epsilon;
using testing::expect_close;
using testing::kInfinity;
using testing::leaf;
using testing::random_inputs;

AttentionOutput one_row(double out, double lse) {
  return {.out_BTHE = leaf(at::tensor(std::vector<double>{out}).view({1, 1, 1, 1})),
          .lse_BHT = leaf(at::tensor(std::vector<double>{lse}).view({1, 1, 1}))};
}

// Case 15 of the project's notes on block masks; PyTorch's formula gives NaN for the last two.
TEST(MergeTest, Case15) {
  const auto expect = [](const AttentionOutput& merged, double out, double lse) {
    EXPECT_DOUBLE_EQ(merged.out_BTHE.item<double>(), out);
    EXPECT_DOUBLE_EQ(merged.lse_BHT.item<double>(), lse);
  };
  expect(merge(one_row(1, 0), one_row(5, std::log(3))), 4, std::log(4));
  expect(merge(one_row(0, -kInfinity), one_row(5, 2)), 5, 2);
  expect(merge(one_row(5, 2), one_row(0, -kInfinity)), 5, 2);
  expect(merge(one_row(0, -kInfinity), one_row(0, -kInfinity)), 0, -kInfinity);
  expect(merge(one_row(1, 1000), one_row(3, 1000)), 2, 1000 + std::log(2));
}

TEST(MergeTest, GradientsOfEmptyPartsAreZero) {
  const AttentionOutput a = one_row(0, -kInfinity);
  const AttentionOutput b = one_row(5, 2);
  const AttentionOutput c = one_row(0, -kInfinity);
  AttentionOutput merged = merge(merge(a, b), c);
  (merged.out_BTHE.sum() + merged.lse_BHT.sum()).backward();
  EXPECT_EQ(b.out_BTHE.grad().item<double>(), 1.0);
  EXPECT_EQ(b.lse_BHT.grad().item<double>(), 1.0);
  for (const AttentionOutput* part : {&a, &c}) {
    EXPECT_EQ(part->out_BTHE.grad().item<double>(), 0.0);
    EXPECT_EQ(part->lse_BHT.grad().item<double>(), 0.0);
  }
  merged = merge(a, c);
  merged.out_BTHE.sum().backward();
  EXPECT_EQ(a.lse_BHT.grad().item<double>(), 0.0);
}

// Keys cut anywhere, each part with its columns of the mask: the whole, with all gradients.
TEST(MergeTest, PartsOfTheKeysAreTheWhole) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::RandomRules random(seed, 30);
    const bool use_flex = seed % 2 == 0;
    const at::ScalarType dtype = use_flex ? at::kFloat : at::kDouble;
    const AttentionOp attend = backend(use_flex ? "flex" : "eager");
    const MaskMod rule = random.rule(2, 3).rule;
    const BlockMask mask = create_block_mask(
        rule, {.batch = rule.batch_size(), .q_len = 20, .kv_len = 30, .block = {8, 5}});
    const std::vector<BlockMask> masks{mask.select_kv_blocks({0, 1}),
                                       mask.select_kv_blocks({2, 3, 4, 5})};
    const testing::AttentionInputs in = random_inputs({.q_len = 20, .kv_len = 30}, dtype);
    const AttentionOptions options{.return_lse = true};
    const auto gradients = [&](bool in_parts) {
      const testing::AttentionInputs x = in.fresh();
      const auto part = [&](int64_t begin, int64_t length, const BlockMask& part_mask) {
        return attend(x.q_BTHD, x.k_BSKD.narrow(1, begin, length),
                      x.v_BSKE.narrow(1, begin, length), part_mask, options);
      };
      const AttentionOutput out =
          in_parts ? merge(part(0, 10, masks[0]), part(10, 20, masks[1])) : part(0, 30, mask);
      const at::Tensor lse = out.lse_BHT.masked_fill(out.lse_BHT.isinf(), 0.0);
      ((out.out_BTHE * in.d_out_BTHE).sum() + lse.sum()).backward();
      return std::vector<at::Tensor>{out.out_BTHE, out.lse_BHT, x.q_BTHD.grad(), x.k_BSKD.grad(),
                                     x.v_BSKE.grad()};
    };
    const std::vector<at::Tensor> whole = gradients(false);
    const std::vector<at::Tensor> merged = gradients(true);
    // The bound of flex_attention_test.cpp, once for each of the two ways:
    // 2 * 4 eps (8 D + S) of the largest result.
    const double noise = 8 * epsilon(dtype) * (8 * 8 + 30);
    for (size_t i = 0; i < whole.size(); ++i) {
      const double size = testing::max_abs(whole[i].masked_fill(whole[i].isinf(), 0.0));
      expect_close(merged[i], whole[i], noise * std::max(1.0, size), 0, std::to_string(i));
    }
  }
}

TEST(MergeTest, RefusesPartsThatDoNotFit) {
  const AttentionOutput part = one_row(1, 0);
  EXPECT_ERROR(merge(part, {.out_BTHE = part.out_BTHE}), "merge: b: got no lse");
  EXPECT_ERROR(merge({}, part), "merge: a: got no out");
  const AttentionOutput wider{.out_BTHE = at::zeros({1, 1, 1, 2}, at::kDouble),
                              .lse_BHT = part.lse_BHT};
  EXPECT_ERROR(merge(part, wider), "[1, 1, 1, 1]", "[1, 1, 1, 2]", "equal shapes");
}

}  // namespace
}  // namespace tessera
