#include "trainer/estimate/document_rows.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "data/loader/packing.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

Rows rows_of(const std::string& json, int64_t seq_len) {
  return parse_document_rows(json, "f.json", seq_len).rows;
}

TEST(DocumentRows, RowsOfTheJobsLengthAreTaken) {
  EXPECT_EQ(rows_of("[[3, 5], [8], [4]]", 8), (Rows{{3, 5}, {8}}));
  const char* const table =
      R"({"about": "x", "rows": [{"total": 8, "lengths": [3, 5]}, {"lengths": [4]}]})";
  EXPECT_EQ(rows_of(table, 8), (Rows{{3, 5}}));
  EXPECT_EQ(rows_of(table, 4), (Rows{{4}}));
  EXPECT_EQ(one_document_a_row(8).rows, (Rows{{8}}));
}

// A list of documents becomes the rows that the data loader makes of them.
TEST(DocumentRows, DocumentsArePackedAsTheLoaderDoes) {
  const std::vector<int64_t> lengths = {3, 9, 1, 5, 20, 2, 8, 7};
  std::vector<std::vector<int64_t>> documents;
  for (const int64_t length : lengths) documents.emplace_back(static_cast<size_t>(length), 1);
  for (const int64_t seq_len : {4, 5, 8, 11}) {
    const Batch expected = pack_documents(documents, seq_len);
    const Batch got = batch_of_documents(rows_of("[3, 9, 1, 5, 20, 2, 8, 7]", seq_len));
    EXPECT_TRUE(at::equal(got.document_ids_BT, expected.document_ids_BT)) << seq_len;
    EXPECT_TRUE(at::equal(got.positions_BT, expected.positions_BT)) << seq_len;
  }
}

TEST(DocumentRows, RefusesWhatIsNoList) {
  EXPECT_ERROR(rows_of("[1, 2", 8), "f.json: parse error at line 1, column 6", "expected ']'");
  EXPECT_ERROR(rows_of("[[3, 5], [3, -5]]", 8), "f.json: [1][1]: got -5", "1 to 2147483647");
  EXPECT_ERROR(rows_of("[3, 0]", 8), "f.json: [1]: got 0");
  EXPECT_ERROR(rows_of("[3, 2.5]", 8), "f.json: [1]: got 2.5");
  EXPECT_ERROR(rows_of("[[3, [5]]]", 8), "f.json: [0][1]: got a list");
  EXPECT_ERROR(rows_of("[[3, 99999999999999999999]]", 8), "f.json: [0][1]: got");
  EXPECT_ERROR(rows_of(R"({"rows": [{"lengths": "x"}]})", 8), "f.json: rows[0].lengths: got \"x\"",
               "a list of document lengths");
  EXPECT_ERROR(rows_of(R"({"rows": [{"length": [8]}]})", 8), "rows[0]", "without \"lengths\"");
  EXPECT_ERROR(rows_of(R"({"lengths": [8]})", 8), "f.json", "without \"rows\"");
  EXPECT_ERROR(rows_of("[]", 8), "an empty list");
  EXPECT_ERROR(rows_of("[[]]", 8), "f.json: [0]: got an empty list");
  EXPECT_ERROR(rows_of("7", 8), "f.json: got 7", "a list of rows");
}

TEST(DocumentRows, RefusesFilesWithoutARow) {
  EXPECT_ERROR(rows_of("[[3, 5], [4], [4]]", 16), "rows of 4, 8 tokens", "seq_len = 16");
  EXPECT_ERROR(rows_of("[3, 5]", 8), "8 tokens in all", "at least training.seq_len + 1 = 9");
  const testing::TempDir folder;
  EXPECT_ERROR(read_document_rows((folder.path() / "none.json").string(), 8), "none.json",
               "cannot be read");
  EXPECT_ERROR(read_document_rows(folder.path().string(), 8), "cannot be read");
  EXPECT_EQ(read_document_rows(folder.write("a.json", "[[8]]"), 8).rows, (Rows{{8}}));
  EXPECT_ERROR(batch_of_documents({{3, 5}, {7}}), "row 1: got 7 tokens", "the 8");
}

}  // namespace
}  // namespace tessera
