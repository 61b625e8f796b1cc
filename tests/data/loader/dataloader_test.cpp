#include "data/loader/dataloader.h"

#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "data/loader/shuffle.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "tests/data/loader/memory_source.h"

namespace tessera {
namespace {

using testing::MemorySource;
using Texts = std::vector<std::string>;
using Row = std::vector<int64_t>;

constexpr int64_t kBos = ByteTokenizer::kBos;
constexpr int64_t kEos = ByteTokenizer::kEos;

// A byte tokenizer without special ids.
class PlainTokenizer final : public Tokenizer {
 public:
  void encode(std::string_view text, Row& ids) const override { bytes_.encode(text, ids); }
  std::string decode(const Row& ids) const override { return bytes_.decode(ids); }
  int64_t vocab_size() const override { return 256; }
  std::optional<int64_t> bos_id() const override { return std::nullopt; }
  std::optional<int64_t> eos_id() const override { return std::nullopt; }
  std::optional<int64_t> pad_id() const override { return std::nullopt; }
  std::string name() const override { return "plain"; }

 private:
  ByteTokenizer bytes_;
};

DataLoader make_loader(const Texts& texts, const DataLoaderOptions& options,
                       std::shared_ptr<MemorySource::Log> log = nullptr) {
  return DataLoader(std::make_unique<MemorySource>(texts, std::move(log)),
                    std::make_shared<ByteTokenizer>(), options);
}

Row flat(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  const int64_t* data = dense.const_data_ptr<int64_t>();
  return Row(data, data + dense.numel());
}

void expect_equal(const Batch& a, const Batch& b) {
  a.check();
  b.check();
  EXPECT_EQ(flat(a.tokens_BT), flat(b.tokens_BT));
  EXPECT_EQ(flat(a.labels_BT), flat(b.labels_BT));
  EXPECT_EQ(flat(a.positions_BT), flat(b.positions_BT));
  EXPECT_EQ(flat(a.document_ids_BT), flat(b.document_ids_BT));
}

Batch joined(const std::vector<Batch>& batches) {
  const auto member = [&](at::Tensor Batch::*name) {
    std::vector<at::Tensor> parts;
    for (const Batch& batch : batches) parts.push_back(batch.*name);
    return at::cat(parts);
  };
  return {member(&Batch::tokens_BT), member(&Batch::labels_BT), member(&Batch::positions_BT),
          member(&Batch::document_ids_BT)};
}

Row tokens_of(const std::string& text) {
  Row tokens = {kBos};
  ByteTokenizer().encode(text, tokens);
  tokens.push_back(kEos);
  return tokens;
}

Texts random_texts(uint64_t seed) {
  std::mt19937_64 random(seed);
  Texts texts(1 + random() % 7);
  for (std::string& text : texts) {
    text.resize(random() % 3 == 0 ? 0 : random() % 30);
    for (char& c : text) c = static_cast<char>('a' + random() % 26);
  }
  texts.front() += "x";  // never all empty
  return texts;
}

// The first rows, from the documents of enough epochs written one after the other.
Batch expected_rows(const Texts& texts, const DataLoaderOptions& options, int64_t num_rows) {
  std::vector<Row> documents;
  int64_t num_tokens = 0;
  for (int64_t epoch = 0; num_tokens < num_rows * (options.seq_len + 1); ++epoch) {
    Row order = shuffled_order(static_cast<int64_t>(texts.size()), options.seed, epoch);
    if (!options.shuffle) std::sort(order.begin(), order.end());
    for (int64_t document : order) {
      if (texts[document].empty()) continue;
      documents.push_back(tokens_of(texts[document]));
      num_tokens += static_cast<int64_t>(documents.back().size());
    }
  }
  return pack_documents(documents, options.seq_len).rows(0, num_rows);
}

TEST(DataLoader, WorkedExampleOfTheReadme) {
  DataLoader loader = make_loader({"ab", "cdefg"}, {.seq_len = 5});
  const Batch batch = loader.next(2);
  EXPECT_EQ(flat(batch.tokens_BT), (Row{kBos, 'a', 'b', kEos, kBos, 'd', 'e', 'f', 'g', kEos}));
  EXPECT_EQ(flat(batch.labels_BT), (Row{'a', 'b', kEos, -100, 'c', 'e', 'f', 'g', kEos, -100}));
  EXPECT_EQ(flat(batch.positions_BT), (Row{0, 1, 2, 3, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(flat(batch.document_ids_BT), (Row{0, 0, 0, 0, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(loader.state(), (DataLoaderState{.epoch = 1, .document = 0, .token = 1}));
}

TEST(DataLoader, RowsAreTheStreamOfEpochsCutUp) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Texts texts = random_texts(seed);
    const DataLoaderOptions options{
        .seq_len = 1 + static_cast<int64_t>(seed % 20), .shuffle = seed % 2 == 0, .seed = seed};
    expect_equal(make_loader(texts, options).next(20), expected_rows(texts, options, 20));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(DataLoader, RowsDoNotDependOnHowManyAreAskedFor) {
  for (bool shuffle : {false, true}) {
    const DataLoaderOptions options{.seq_len = 7, .shuffle = shuffle, .seed = 5};
    const Texts texts = random_texts(11);
    const Batch all = make_loader(texts, options).next(24);
    for (int64_t at_a_time : {1, 2, 3, 8}) {
      DataLoader loader = make_loader(texts, options);
      std::vector<Batch> batches;
      for (int64_t row = 0; row < 24; row += at_a_time) batches.push_back(loader.next(at_a_time));
      expect_equal(joined(batches), all);
    }
  }
}

// Ranks that keep rows of their own leave their streams at the same place.
TEST(DataLoader, SlicesOfRowsAreTheRows) {
  constexpr int64_t kRows = 24;
  for (bool shuffle : {false, true}) {
    const DataLoaderOptions options{.seq_len = 7, .shuffle = shuffle, .seed = 5};
    const Texts texts = random_texts(11);
    const Batch all = make_loader(texts, options).next(kRows);
    for (int64_t num_ranks : {1, 2, 3, 4}) {
      std::vector<DataLoaderState> ends;
      for (int64_t rank = 0; rank < num_ranks; ++rank) {
        DataLoader loader = make_loader(texts, options);
        for (int64_t row = 0; row < kRows; row += 2 * num_ranks) {
          const int64_t first = row + 2 * rank;
          expect_equal(loader.next({.first = 2 * rank, .count = 2, .stride = 2 * num_ranks}),
                       all.rows(first, first + 2));
        }
        ends.push_back(loader.state());
        EXPECT_EQ(ends.back(), ends.front());
      }
    }
  }
}

TEST(DataLoader, ResumesAtEveryRow) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Texts texts = random_texts(seed);
    const DataLoaderOptions options{
        .seq_len = 1 + static_cast<int64_t>(seed % 13), .shuffle = seed % 2 == 1, .seed = seed};
    constexpr int64_t kRows = 25;
    const Batch all = make_loader(texts, options).next(kRows);
    DataLoader uninterrupted = make_loader(texts, options);
    for (int64_t row = 1; row < kRows; ++row) {
      uninterrupted.next(1);
      DataLoader resumed = make_loader(texts, options);
      resumed.load_state(uninterrupted.state());
      EXPECT_EQ(resumed.state(), uninterrupted.state());
      expect_equal(resumed.next(kRows - row), all.rows(row, kRows));
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(DataLoader, GoesBackToAnEarlierState) {
  DataLoader loader = make_loader({"some text", "and more"}, {.seq_len = 6, .shuffle = true});
  loader.next(1);
  const DataLoaderState state = loader.state();
  const Batch first = loader.next(9);
  loader.load_state(state);
  expect_equal(loader.next(9), first);
  loader.load_state({});
  EXPECT_EQ(loader.state(), DataLoaderState{});
}

TEST(DataLoader, ResumingReadsOneDocument) {
  const auto log = std::make_shared<MemorySource::Log>();
  const Texts texts = {"aaaa", "bbbb", "cccc", "dddd"};
  DataLoader loader = make_loader(texts, {.seq_len = 4}, log);
  EXPECT_TRUE(log->empty());
  loader.load_state({.epoch = 7, .document = 2, .token = 3});
  EXPECT_EQ(*log, (MemorySource::Log{2}));
  EXPECT_EQ(flat(loader.next(1).tokens_BT), (Row{'c', 'c', kEos, kBos}));
  EXPECT_EQ(*log, (MemorySource::Log{2, 3}));
  loader.load_state({.epoch = 7, .document = 1, .token = 0});
  EXPECT_EQ(*log, (MemorySource::Log{2, 3}));
}

TEST(DataLoader, StateLeavesAFinishedDocument) {
  DataLoader loader = make_loader({"ab", "cdef"}, {.seq_len = 3});
  loader.next(1);  // exactly BOS a b EOS
  EXPECT_EQ(loader.state(), (DataLoaderState{.epoch = 0, .document = 1, .token = 0}));
  loader.next(1);
  EXPECT_EQ(loader.state(), (DataLoaderState{.epoch = 0, .document = 1, .token = 4}));
}

TEST(DataLoader, ShuffleReadsEachDocumentOncePerEpoch) {
  const auto log = std::make_shared<MemorySource::Log>();
  const Texts texts(10, "a");  // three tokens each: 10 rows of 2 + 1 tokens are an epoch
  DataLoader loader = make_loader(texts, {.seq_len = 2, .shuffle = true, .seed = 9}, log);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    log->clear();
    loader.next(10);
    EXPECT_EQ(*log, shuffled_order(10, 9, epoch));
    EXPECT_EQ(loader.state().epoch, epoch + 1);
  }
}

TEST(DataLoader, WithoutShuffleTheOrderIsTheSources) {
  const auto log = std::make_shared<MemorySource::Log>();
  make_loader({"a", "b", "c"}, {.seq_len = 2, .seed = 9}, log).next(6);
  EXPECT_EQ(*log, (MemorySource::Log{0, 1, 2, 0, 1, 2}));
}

TEST(DataLoader, LongDocumentsSpanRowsAndAreReadOnce) {
  const auto log = std::make_shared<MemorySource::Log>();
  const std::string text(1000, 'x');
  const Batch batch = make_loader({text}, {.seq_len = 99}, log).next(10);
  EXPECT_EQ(*log, (MemorySource::Log{0}));
  EXPECT_EQ(batch.num_valid_labels(), 990);
  EXPECT_EQ(flat(batch.positions_BT.select(1, 98)), Row(10, 98));
  EXPECT_EQ(flat(batch.document_ids_BT), Row(990, 0));
}

TEST(DataLoader, EmptyDocumentsAreSkippedAndCounted) {
  DataLoader loader = make_loader({"", "a", "", "", "b", ""}, {.seq_len = 2});
  EXPECT_EQ(flat(loader.next(2).tokens_BT), (Row{kBos, 'a', kBos, 'b'}));
  EXPECT_EQ(loader.stats().num_empty_documents, 3);
  EXPECT_EQ(flat(loader.next(1).tokens_BT), (Row{kBos, 'a'}));
  EXPECT_EQ(loader.stats().num_empty_documents, 5);
}

TEST(DataLoader, InvalidUtf8IsReplacedAndCounted) {
  DataLoader loader = make_loader({"\xFF\xFF", "ok"}, {.seq_len = 11});
  const Batch batch = loader.next(1);
  EXPECT_EQ(flat(batch.tokens_BT),
            (Row{kBos, 0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD, kEos, kBos, 'o', 'k'}));
  EXPECT_EQ(loader.stats().num_invalid_utf8_documents, 1);
  loader.next(1);
  EXPECT_EQ(loader.stats().num_invalid_utf8_documents, 2);
}

TEST(DataLoader, TokenizersWithoutSpecialIds) {
  DataLoader loader(std::make_unique<MemorySource>(Texts{"ab", "c"}),
                    std::make_shared<PlainTokenizer>(), {.seq_len = 5});
  const Batch batch = loader.next(1);
  EXPECT_EQ(flat(batch.tokens_BT), (Row{'a', 'b', 'c', 'a', 'b'}));
  EXPECT_EQ(flat(batch.labels_BT), (Row{'b', -100, -100, 'b', -100}));
  EXPECT_EQ(flat(batch.document_ids_BT), (Row{0, 0, 1, 2, 2}));
}

TEST(DataLoader, RowsOfOneToken) {
  DataLoader loader = make_loader({"a"}, {.seq_len = 1});
  const Batch batch = loader.next(3);
  EXPECT_EQ(flat(batch.tokens_BT), (Row{kBos, kEos, 'a'}));
  EXPECT_EQ(flat(batch.labels_BT), (Row{'a', -100, kEos}));
}

}  // namespace
}  // namespace tessera
