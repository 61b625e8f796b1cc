#include "data/tokenizers/open_tokenizer.h"

#include <gtest/gtest.h>

#include "data/tokenizers/byte_tokenizer.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using Names = std::vector<std::string>;

// A tokenizer of the test's own, which keeps what it was opened with.
TokenizerEntry entry_of(const std::string& name, TokenizerOptions* seen = nullptr) {
  return {.name = name, .open = [seen](const TokenizerOptions& options) {
            if (seen != nullptr) *seen = options;
            return std::make_shared<ByteTokenizer>();
          }};
}

TEST(TokenizerRegistry, TheBuiltinsAreBytes) {
  EXPECT_EQ(TokenizerRegistry::with_builtins().names(), Names{"bytes"});
  EXPECT_TRUE(TokenizerRegistry().names().empty());
}

TEST(TokenizerRegistry, KeepsTheOrderOfAdding) {
  TokenizerRegistry registry = TokenizerRegistry::with_builtins();
  registry.add(entry_of("words"));
  registry.add(entry_of("bpe_2"));
  EXPECT_EQ(registry.names(), (Names{"bytes", "words", "bpe_2"}));
  EXPECT_EQ(registry.find("words")->name, "words");
  EXPECT_EQ(registry.find("letters"), nullptr);
}

TEST(TokenizerRegistry, RefusesNamesThatAreTakenOrNoWords) {
  TokenizerRegistry registry = TokenizerRegistry::with_builtins();
  EXPECT_ERROR(registry.add(entry_of("bytes")), "\"bytes\"", "not taken", "auto, bytes");
  EXPECT_ERROR(registry.add(entry_of("auto")), "\"auto\"", "not taken");
  EXPECT_ERROR(registry.add(entry_of("")), "got \"\"", "letters, digits");
  EXPECT_ERROR(registry.add(entry_of("two words")), "\"two words\"", "letters, digits");
  EXPECT_ERROR(registry.add({.name = "mine", .open = nullptr}), "open of \"mine\"", "a function");
  EXPECT_EQ(registry.names(), Names{"bytes"});
}

TEST(OpenTokenizer, AutoIsBytes) {
  const TokenizerRegistry registry = TokenizerRegistry::with_builtins();
  EXPECT_EQ(open_tokenizer({}, registry)->name(), "bytes");
  EXPECT_EQ(open_tokenizer({.tokenizer = "auto"}, registry)->name(), "bytes");
  EXPECT_EQ(open_tokenizer({.tokenizer = "bytes"}, registry)->name(), "bytes");
}

TEST(OpenTokenizer, OpensAnAddedOneWithTheOptions) {
  TokenizerRegistry registry = TokenizerRegistry::with_builtins();
  TokenizerOptions seen;
  registry.add(entry_of("words", &seen));
  EXPECT_NE(open_tokenizer({.tokenizer = "words", .assets_path = "a/folder"}, registry), nullptr);
  EXPECT_EQ(seen.tokenizer, "words");
  EXPECT_EQ(seen.assets_path, "a/folder");
}

TEST(OpenTokenizer, RefusesUnknownNamesWithTheKeyAndWhatThereIs) {
  TokenizerRegistry registry = TokenizerRegistry::with_builtins();
  registry.add(entry_of("words"));
  EXPECT_ERROR(open_tokenizer({.tokenizer = "bpe"}, registry), "model.tokenizer", "\"bpe\"",
               "auto, bytes, words");
  EXPECT_ERROR(open_tokenizer({}, TokenizerRegistry()), "model.tokenizer", "\"auto\"");
}

TEST(OpenTokenizer, RefusesATokenizerThatIsNone) {
  TokenizerRegistry registry;
  registry.add({.name = "none", .open = [](const TokenizerOptions&) {
                  return std::shared_ptr<const Tokenizer>();
                }});
  EXPECT_ERROR(open_tokenizer({.tokenizer = "none"}, registry), "model.tokenizer", "\"none\"",
               "no tokenizer");
}

}  // namespace
}  // namespace tessera
