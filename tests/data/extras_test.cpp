#include "data/extras.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "data/batch.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

// 3 rows of 4 tokens, 2 patch slots of 5 numbers.
Extras make_extras() {
  return {.patches_BPC = at::arange(30, at::kDouble).view({3, 2, 5}),
          .image_ids_BP = at::tensor(std::vector<int64_t>{0, 1, 0, 0, 0, kNoImage}).view({3, 2}),
          .feature_of_token_BT =
              at::tensor(std::vector<int64_t>{-1, 0, -1, -1, 1, 0, -1, -1, -1, -1, -1, 0})
                  .view({3, 4})};
}

Batch batch_with_extras() {
  const at::Tensor any = at::zeros({3, 4}, at::kLong);
  return {any, any, any, any, make_extras()};
}

void expect_equal(const Extras& got, const Extras& expected) {
  EXPECT_TRUE(got.patches_BPC.equal(expected.patches_BPC));
  EXPECT_TRUE(got.image_ids_BP.equal(expected.image_ids_BP));
  EXPECT_TRUE(got.feature_of_token_BT.equal(expected.feature_of_token_BT));
}

TEST(Extras, WithoutMembersThereIsOnlyText) {
  const Extras none;
  EXPECT_TRUE(none.empty());
  none.check(at::zeros({3, 4}, at::kLong));
  EXPECT_TRUE(none.rows(0, 2).empty());
  EXPECT_TRUE(none.to(at::kMeta).empty());
  EXPECT_FALSE(make_extras().empty());
}

TEST(Extras, GoWithTheirBatch) {
  const Batch batch = batch_with_extras();
  batch.check();
  const Extras rows = batch.rows(1, 3).extras;
  expect_equal(rows,
               {make_extras().patches_BPC.slice(0, 1, 3), make_extras().image_ids_BP.slice(0, 1, 3),
                make_extras().feature_of_token_BT.slice(0, 1, 3)});
  EXPECT_EQ(rows.patches_BPC.const_data_ptr(),
            batch.extras.patches_BPC.const_data_ptr<double>() + 10);
  const Batch moved = batch.to(at::kMeta);
  moved.check();
  EXPECT_TRUE(moved.extras.patches_BPC.is_meta());
  EXPECT_TRUE(moved.extras.image_ids_BP.is_meta());
  EXPECT_TRUE(moved.extras.feature_of_token_BT.is_meta());
}

void expect_refused(const Extras& extras, const std::string& member, const std::string& got,
                    const std::string& expected) {
  Batch batch = batch_with_extras();
  batch.extras = extras;
  EXPECT_ERROR(batch.check(), "Extras::" + member, got, expected);
}

TEST(Extras, CheckNamesWhatIsWrong) {
  Extras extras = make_extras();
  extras.patches_BPC = at::Tensor();
  expect_refused(extras, "patches_BPC", "undefined", "floating point [B, P, C]");
  extras = make_extras();
  extras.image_ids_BP = at::Tensor();
  expect_refused(extras, "image_ids_BP", "undefined", "int64 (Long) [B, P]");
  extras = make_extras();
  extras.patches_BPC = extras.patches_BPC.to(at::kLong);
  expect_refused(extras, "patches_BPC", "Long [3, 2, 5]", "floating point");
  extras = make_extras();
  extras.patches_BPC = extras.patches_BPC.narrow(0, 0, 2);
  expect_refused(extras, "patches_BPC", "[2, 2, 5]", "3 rows");
  extras = make_extras();
  extras.patches_BPC = at::zeros({3});
  expect_refused(extras, "patches_BPC", "[3]", "[B, P, C]");
  extras = make_extras();
  extras.image_ids_BP = at::zeros({3, 3}, at::kLong);
  expect_refused(extras, "image_ids_BP", "[3, 3]", "3 rows and 2");
  extras = make_extras();
  extras.feature_of_token_BT = extras.feature_of_token_BT.to(at::kInt);
  expect_refused(extras, "feature_of_token_BT", "Int [3, 4]", "int64 (Long) [B, T]");
  extras = make_extras();
  extras.feature_of_token_BT = at::zeros({3, 5}, at::kLong);
  expect_refused(extras, "feature_of_token_BT", "[3, 5]", "3 rows and 4");
  extras = make_extras();
  extras.image_ids_BP = extras.image_ids_BP.to(at::kMeta);
  expect_refused(extras, "image_ids_BP", "device meta", "cpu");
}

TEST(Extras, CheckSeesSlotsThatAreNotThere) {
  Extras extras = make_extras();
  extras.feature_of_token_BT[2][0] = 2;
  expect_refused(extras, "feature_of_token_BT", "from -1 to 2", "-1 (none) to 1: 2 patch slots");
  extras.feature_of_token_BT[2][0] = -2;
  expect_refused(extras, "feature_of_token_BT", "from -2 to 1", "-1 (none) to 1");
}

}  // namespace
}  // namespace tessera
