// The errors of the loader for sources, states and requests that are wrong.
#include <gtest/gtest.h>

#include <filesystem>

#include "data/loader/dataloader.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "tests/data/loader/memory_source.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::MemorySource;
using testing::TempDir;
using Texts = std::vector<std::string>;

DataLoader loader_of(std::unique_ptr<TextSource> source, const DataLoaderOptions& options) {
  return DataLoader(std::move(source), std::make_shared<ByteTokenizer>(), options);
}

DataLoader loader_of(const Texts& texts, const DataLoaderOptions& options) {
  return loader_of(std::make_unique<MemorySource>(texts), options);
}

TEST(DataLoaderErrors, Construction) {
  EXPECT_ERROR(loader_of({"a"}, {.seq_len = 0}), "seq_len", "got 0", "at least 1");
  EXPECT_ERROR(loader_of(Texts{}, {}), "source", "got 0 documents", "at least 1");
  EXPECT_ERROR(loader_of(nullptr, {}), "source", "null");
  EXPECT_ERROR(DataLoader(std::make_unique<MemorySource>(Texts{"a"}), nullptr, {}), "tokenizer",
               "null");
}

TEST(DataLoaderErrors, NumberOfRows) {
  DataLoader loader = loader_of({"a"}, {.seq_len = 2});
  EXPECT_ERROR(loader.next(0), "num_rows", "got 0", "at least 1");
  EXPECT_ERROR(loader.next(-4), "num_rows", "got -4", "at least 1");
  EXPECT_ERROR(loader.next({.first = 1, .count = 2, .stride = 2}), "rows", "got 2 from row 1 of 2");
  EXPECT_ERROR(loader.next({.first = -1, .count = 1, .stride = 2}), "got 1 from row -1 of 2");
  EXPECT_EQ(loader.state(), DataLoaderState{});
}

TEST(DataLoaderErrors, AllDocumentsEmpty) {
  for (bool shuffle : {false, true}) {
    DataLoader loader = loader_of({"", "", ""}, {.seq_len = 2, .shuffle = shuffle});
    for (int attempt = 0; attempt < 2; ++attempt) {  // and again, when it is asked again
      EXPECT_ERROR(loader.next(1), "training.dataset_path", "all 3 documents are empty",
                   "memory:0");
    }
  }
}

TEST(DataLoaderErrors, AllDocumentsEmptyAfterResuming) {
  DataLoader loader = loader_of({"", "", ""}, {.seq_len = 2});
  loader.load_state({.epoch = 4, .document = 2, .token = 0});
  EXPECT_ERROR(loader.next(1), "all 3 documents are empty");
}

TEST(DataLoaderErrors, ResumingBehindTheOnlyTextIsNone) {
  DataLoader loader = loader_of({"a", "", ""}, {.seq_len = 2});
  loader.load_state({.epoch = 4, .document = 1, .token = 0});
  EXPECT_EQ(loader.next(1).num_valid_labels(), 2);
  EXPECT_EQ(loader.state().epoch, 5);
}

TEST(DataLoaderErrors, AnUnreadableFileInTheMiddleIsNamed) {
  const TempDir dir;
  dir.write("a.txt", "aaaa");
  const std::string b = dir.write("b.txt", "bbbb");
  dir.write("c.txt", "cccc");
  auto source = open_text_source({"text_files", dir.path().string()});
  std::filesystem::remove(b);
  std::filesystem::create_directory(b);
  DataLoader loader = loader_of(std::move(source), {.seq_len = 5});
  loader.next(1);
  EXPECT_ERROR(loader.next(1), "cannot read " + b, "Is a directory");
}

TEST(DataLoaderErrors, InvalidUtf8CanBeRefused) {
  const TempDir dir;
  dir.write("a.txt", "good");
  const std::string b = dir.write("b.txt", "ab\xC3");
  DataLoader loader = loader_of(open_text_source({"text_files", dir.path().string()}),
                                {.seq_len = 5, .invalid_utf8 = InvalidUtf8::kRefuse});
  loader.next(1);
  EXPECT_ERROR(loader.next(1), b, "invalid UTF-8 at byte 2 (0xC3)");
  EXPECT_EQ(loader.stats().num_invalid_utf8_documents, 0);
}

TEST(DataLoaderErrors, ABadJsonLineIsNamed) {
  const TempDir dir;
  const std::string path = dir.write("x.jsonl", "{\"text\": \"good\"}\n{\"texts\": 1}\n");
  DataLoader loader = loader_of(open_text_source({"jsonl", path}), {.seq_len = 5});
  loader.next(1);
  EXPECT_ERROR(loader.next(1), path + ":2", "no field `text`");
}

TEST(DataLoaderErrors, StatesThatDoNotFit) {
  DataLoader loader = loader_of({"aaaa", "", "b"}, {.seq_len = 2});
  loader.next(1);
  const DataLoaderState before = loader.state();
  EXPECT_ERROR(loader.load_state({.epoch = -1}), "data loader state: epoch", "got -1");
  EXPECT_ERROR(loader.load_state({.document = 3}), "document", "got 3", "[0, 3)");
  EXPECT_ERROR(loader.load_state({.document = -1}), "document", "got -1", "[0, 3)");
  EXPECT_ERROR(loader.load_state({.token = -1}), "token", "got -1");
  EXPECT_ERROR(loader.load_state({.document = 2, .token = 3}), "token: got 3", "memory:2",
               "has 3 tokens", "dataset and tokenizer");
  EXPECT_ERROR(loader.load_state({.document = 1, .token = 1}), "token: got 1", "memory:1",
               "has 0 tokens");
  EXPECT_EQ(loader.state(), before);
  EXPECT_EQ(loader.next(1).tokens_BT.const_data_ptr<int64_t>()[0], 'a');
}

}  // namespace
}  // namespace tessera
