#include "data/loader/packing.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "data/files/file_io.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"

namespace tessera {
namespace {

using Row = std::vector<int64_t>;
using Rows = std::vector<Row>;
using Documents = std::vector<std::vector<int64_t>>;

Rows rows_of(const at::Tensor& tensor_BT) {
  Rows rows;
  const int64_t* data = tensor_BT.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < tensor_BT.size(0); ++b, data += tensor_BT.size(1)) {
    rows.emplace_back(data, data + tensor_BT.size(1));
  }
  return rows;
}

struct Expected {
  Rows tokens, labels, positions, document_ids;
};

// The rule as it is said: write down the stream, and beside each token its document; then look at
// each position alone.
Expected slow_pack(const Documents& documents, int64_t seq_len) {
  Row stream, owner;
  for (size_t d = 0; d < documents.size(); ++d) {
    for (int64_t token : documents[d]) {
      stream.push_back(token);
      owner.push_back(static_cast<int64_t>(d));
    }
  }
  Expected expected;
  const auto window = static_cast<size_t>(seq_len) + 1;
  for (size_t begin = 0; begin + window <= stream.size(); begin += window) {
    Row tokens, labels, positions, ids;
    for (size_t i = begin; i + 1 < begin + window; ++i) {
      const bool continues = i > begin && owner[i] == owner[i - 1];
      tokens.push_back(stream[i]);
      labels.push_back(owner[i] == owner[i + 1] ? stream[i + 1] : -100);
      positions.push_back(continues ? positions.back() + 1 : 0);
      ids.push_back(i == begin ? 0 : continues ? ids.back() : ids.back() + 1);
    }
    expected.tokens.push_back(tokens);
    expected.labels.push_back(labels);
    expected.positions.push_back(positions);
    expected.document_ids.push_back(ids);
  }
  return expected;
}

void expect_batch(const Batch& batch, const Expected& expected) {
  batch.check();
  EXPECT_EQ(rows_of(batch.tokens_BT), expected.tokens);
  EXPECT_EQ(rows_of(batch.labels_BT), expected.labels);
  EXPECT_EQ(rows_of(batch.positions_BT), expected.positions);
  EXPECT_EQ(rows_of(batch.document_ids_BT), expected.document_ids);
}

TEST(Packing, ExampleOfTheHeader) {
  const Batch batch = pack_documents({{'a', 'b', 'c'}, {'d', 'e', 'f', 'g', 'h'}}, 4);
  expect_batch(batch, {.tokens = {{'a', 'b', 'c', 'd'}},
                       .labels = {{'b', 'c', -100, 'e'}},
                       .positions = {{0, 1, 2, 0}},
                       .document_ids = {{0, 0, 0, 1}}});
}

TEST(Packing, LongDocumentsSpanRows) {
  const Batch batch = pack_documents({{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, 2);
  expect_batch(batch, {.tokens = {{1, 2}, {4, 5}, {7, 8}},
                       .labels = {{2, 3}, {5, 6}, {8, 9}},
                       .positions = {{0, 1}, {0, 1}, {0, 1}},
                       .document_ids = {{0, 0}, {0, 0}, {0, 0}}});
}

TEST(Packing, RowsOfOneToken) {
  const Batch batch = pack_documents({{1, 2, 3}, {4}, {5, 6}}, 1);
  expect_batch(batch, {.tokens = {{1}, {3}, {5}},
                       .labels = {{2}, {-100}, {6}},
                       .positions = {{0}, {0}, {0}},
                       .document_ids = {{0}, {0}, {0}}});
}

TEST(Packing, TooFewTokensMakeNoRow) {
  for (const Documents& documents : {Documents{}, Documents{{}, {}}, Documents{{1, 2}, {3}}}) {
    const Batch batch = pack_documents(documents, 3);
    batch.check();
    EXPECT_EQ(batch.batch_size(), 0);
    EXPECT_EQ(batch.seq_len(), 3);
    EXPECT_EQ(batch.num_valid_labels(), 0);
  }
}

TEST(Packing, RefusesImpossibleSizes) {
  EXPECT_ERROR(pack_documents({{1, 2}}, 0), "seq_len", "got 0", "at least 1");
  EXPECT_ERROR(BatchPacker(1, -3), "seq_len", "got -3", "at least 1");
  EXPECT_ERROR(BatchPacker(-1, 4), "num_rows", "got -1", "0 or more");
}

TEST(Packing, FinishRequiresAllRows) {
  BatchPacker packer(2, 1);
  const int64_t tokens[] = {1, 2, 3};
  EXPECT_EQ(packer.append(tokens, 3), 2);  // the first window
  EXPECT_EQ(packer.append(tokens + 2, 1), 1);
  EXPECT_ERROR(std::move(packer).finish(), "row 1 of 2");
}

TEST(Packing, AFullPackerTakesNothing) {
  BatchPacker packer(1, 1);
  const int64_t tokens[] = {1, 2, 3};
  EXPECT_EQ(packer.append(tokens, 3), 2);
  EXPECT_TRUE(packer.full());
  EXPECT_EQ(packer.append(tokens, 3), 0);
}

Documents random_documents(std::mt19937_64& random) {
  const int64_t longest = 1 + static_cast<int64_t>(random() % 40);
  Documents documents(random() % 12);
  int64_t token = 0;  // all tokens differ, so that a shift cannot hide
  for (auto& document : documents) {
    document.resize(random() % 4 == 0 ? random() % 2 : random() % (longest + 1));
    for (int64_t& t : document) t = token++;
  }
  return documents;
}

TEST(Packing, AgreesWithTheSlowRule) {
  int64_t num_rows = 0;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const Documents documents = random_documents(random);
    const int64_t seq_len = 1 + static_cast<int64_t>(random() % 17);
    const Batch batch = pack_documents(documents, seq_len);
    expect_batch(batch, slow_pack(documents, seq_len));
    num_rows += batch.batch_size();
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(num_rows, 10000);
}

// The invariants on which masks, RoPE and loss rely hold for every batch that the packer makes.
TEST(Packing, Invariants) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::mt19937_64 random(seed);
    const Documents documents = random_documents(random);
    const Batch batch = pack_documents(documents, 1 + static_cast<int64_t>(random() % 17));
    const Rows tokens = rows_of(batch.tokens_BT), labels = rows_of(batch.labels_BT),
               positions = rows_of(batch.positions_BT), ids = rows_of(batch.document_ids_BT);
    for (size_t b = 0; b < tokens.size(); ++b) {
      ASSERT_EQ(positions[b][0], 0) << "seed " << seed;
      ASSERT_EQ(ids[b][0], 0) << "seed " << seed;
      for (size_t t = 1; t < tokens[b].size(); ++t) {
        const bool new_document = ids[b][t] == ids[b][t - 1] + 1;
        ASSERT_TRUE(new_document || ids[b][t] == ids[b][t - 1]) << "seed " << seed;
        ASSERT_EQ(positions[b][t], new_document ? 0 : positions[b][t - 1] + 1) << "seed " << seed;
        ASSERT_EQ(labels[b][t - 1], new_document ? kIgnoreLabel : tokens[b][t]) << "seed " << seed;
      }
    }
  }
}

template <typename T>
std::vector<int64_t> read_integers(const std::string& name) {
  const std::string bytes = read_file(testing::golden("data/" + name));
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

// Case 20 of the project's notes on block masks.
TEST(DocumentIdsFromEos, EosEndsItsDocument) {
  const auto ids = [](const Row& tokens) {
    const at::Tensor tokens_BT = at::tensor(tokens).unsqueeze(0);
    return rows_of(document_ids_from_eos(tokens_BT, /*eos_id=*/2)).front();
  };
  EXPECT_EQ(ids({5, 2, 7, 2, 9, 9}), (Row{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(ids({2, 2, 7, 8, 9, 2}), (Row{0, 1, 2, 2, 2, 2}));
  EXPECT_EQ(ids({5, 7, 9}), (Row{0, 0, 0}));
  EXPECT_ERROR(document_ids_from_eos(at::tensor(Row{1}), 2), "tokens_BT", "Long [1]", "[B, T]");
  EXPECT_ERROR(document_ids_from_eos({}, 2), "no tensor");
}

Documents documents_ending_in_zero(const std::vector<int64_t>& stream) {
  Documents documents(1);
  for (int64_t token : stream) {
    documents.back().push_back(token);
    if (token == 0) documents.emplace_back();
  }
  return documents;
}

class TorchTitanRows : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchTitanRows, AreCutAlike) {
  const std::string run = GetParam();
  const auto stream = read_integers<uint16_t>(run + "_stream.u16.bin");
  const Batch batch = pack_documents(documents_ending_in_zero(stream), 64);
  ASSERT_EQ(batch.batch_size(), 100);
  const auto flat = [](const at::Tensor& t) {
    const int64_t* data = t.const_data_ptr<int64_t>();
    return std::vector<int64_t>(data, data + t.numel());
  };
  EXPECT_EQ(flat(batch.tokens_BT), read_integers<int16_t>(run + "_inputs.i16.bin"));
  EXPECT_EQ(flat(batch.labels_BT), read_integers<int16_t>(run + "_labels.i16.bin"));
}

INSTANTIATE_TEST_SUITE_P(Oracle, TorchTitanRows, ::testing::Values("causal", "block_causal"));

}  // namespace
}  // namespace tessera
