#include "data/tokenizers/open_tokenizer.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "data/tokenizers/byte_tokenizer.h"

namespace tessera {
namespace {

constexpr const char* kAuto = "auto";

bool is_word(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

}  // namespace

TokenizerRegistry TokenizerRegistry::with_builtins() {
  TokenizerRegistry registry;
  registry.add({.name = "bytes",
                .description = "a token per byte, with BOS, EOS and PAD",
                .open = [](const auto&) { return std::make_shared<ByteTokenizer>(); }});
  return registry;
}

void TokenizerRegistry::add(TokenizerEntry entry) {
  TORCH_CHECK(is_word(entry.name), "TokenizerRegistry::add: name: got \"", entry.name,
              "\", expected letters, digits and \"_\"");
  TORCH_CHECK(entry.name != kAuto && find(entry.name) == nullptr,
              "TokenizerRegistry::add: name: got \"", entry.name,
              "\", expected one that is not taken; there are: ", kAuto, ", ",
              c10::Join(", ", names()));
  TORCH_CHECK(entry.open != nullptr, "TokenizerRegistry::add: open of \"", entry.name,
              "\": got none, expected a function");
  entries_.push_back(std::move(entry));
}

const TokenizerEntry* TokenizerRegistry::find(const std::string& name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const TokenizerEntry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

std::vector<std::string> TokenizerRegistry::names() const {
  std::vector<std::string> names;
  for (const TokenizerEntry& entry : entries_) names.push_back(entry.name);
  return names;
}

std::shared_ptr<const Tokenizer> open_tokenizer(const TokenizerOptions& options,
                                                const TokenizerRegistry& registry) {
  const TokenizerEntry* entry =
      registry.find(options.tokenizer == kAuto ? "bytes" : options.tokenizer);
  TORCH_CHECK(entry != nullptr, "model.tokenizer: got \"", options.tokenizer,
              "\", expected one of: ", kAuto, ", ", c10::Join(", ", registry.names()));
  std::shared_ptr<const Tokenizer> tokenizer = entry->open(options);
  TORCH_CHECK(tokenizer != nullptr, "model.tokenizer: \"", entry->name,
              "\" opened no tokenizer, expected one");
  return tokenizer;
}

}  // namespace tessera
