#include "data/batch.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

Batch text_batch() {
  const auto filled = [](int64_t begin) {
    return at::arange(begin, begin + 12, at::kLong).reshape({3, 4});
  };
  return {filled(0), filled(100), filled(200), filled(300)};
}

TEST(Batch, ChecksItself) {
  Batch batch = text_batch();
  batch.check();
  EXPECT_EQ(batch.batch_size(), 3);
  EXPECT_EQ(batch.seq_len(), 4);
}

TEST(Batch, CheckNamesWhatIsWrong) {
  Batch batch = text_batch();
  batch.tokens_BT = at::Tensor();
  EXPECT_ERROR(batch.check(), "tokens_BT", "undefined", "int64 [B, T]");

  batch = text_batch();
  batch.labels_BT = batch.labels_BT.to(at::kInt);
  EXPECT_ERROR(batch.check(), "labels_BT", "Int [3, 4]", "int64 (Long) [B, T]");

  batch = text_batch();
  batch.tokens_BT = batch.tokens_BT.reshape({12});
  EXPECT_ERROR(batch.check(), "tokens_BT", "Long [12]", "int64 (Long) [B, T]");

  batch = text_batch();
  batch.positions_BT = at::zeros({3, 5}, at::kLong);
  EXPECT_ERROR(batch.check(), "positions_BT", "[3, 5]", "[3, 4]");

  batch = text_batch();
  batch.document_ids_BT = at::zeros({3, 4}, at::TensorOptions(at::kMeta).dtype(at::kLong));
  EXPECT_ERROR(batch.check(), "document_ids_BT", "device meta", "cpu");
}

TEST(Batch, CountsValidLabels) {
  Batch batch = text_batch();
  EXPECT_EQ(batch.num_valid_labels(), 12);
  batch.labels_BT.select(1, 3).fill_(kIgnoreLabel);
  EXPECT_EQ(batch.num_valid_labels(), 9);
  batch.labels_BT.fill_(kIgnoreLabel);
  EXPECT_EQ(batch.num_valid_labels(), 0);
}

TEST(Batch, RowsShareStorage) {
  const Batch batch = text_batch();
  const Batch rows = batch.rows(1, 3);
  EXPECT_TRUE(rows.tokens_BT.equal(batch.tokens_BT.slice(0, 1, 3)));
  EXPECT_TRUE(rows.labels_BT.equal(batch.labels_BT.slice(0, 1, 3)));
  EXPECT_TRUE(rows.positions_BT.equal(batch.positions_BT.slice(0, 1, 3)));
  EXPECT_TRUE(rows.document_ids_BT.equal(batch.document_ids_BT.slice(0, 1, 3)));
  EXPECT_EQ(rows.tokens_BT.const_data_ptr(), batch.tokens_BT.const_data_ptr<int64_t>() + 4);
  EXPECT_EQ(batch.rows(3, 3).batch_size(), 0);
}

TEST(Batch, RowsRefusesOtherRanges) {
  const Batch batch = text_batch();
  EXPECT_ERROR(batch.rows(-1, 2), "[-1, 2)", "3 rows");
  EXPECT_ERROR(batch.rows(2, 1), "[2, 1)", "3 rows");
  EXPECT_ERROR(batch.rows(0, 4), "[0, 4)", "3 rows");
}

TEST(Batch, MovesEveryMember) {
  const Batch batch = text_batch().to(at::kMeta);
  batch.check();
  EXPECT_EQ(batch.tokens_BT.device().type(), at::kMeta);
  EXPECT_EQ(batch.document_ids_BT.device().type(), at::kMeta);
}

}  // namespace
}  // namespace tessera
