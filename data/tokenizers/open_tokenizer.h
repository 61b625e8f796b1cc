// Tokenizers by name, where users add their own. A registry is a plain object that is passed down:
// there is no global one.
//
//   TokenizerRegistry registry = TokenizerRegistry::with_builtins();
//   registry.add({.name = "letters", .description = "...", .open = open_letters});
//   std::shared_ptr<const Tokenizer> tokenizer =
//       open_tokenizer({.tokenizer = "letters"}, registry);
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"

namespace tessera {

struct TokenizerOptions {
  std::string tokenizer = "auto";  // a registered name, or auto
  std::string assets_path = {};    // the folder of tokenizers that have files; "bytes" has none
};

// A tokenizer that a registry lists.
struct TokenizerEntry {
  std::string name;              // letters, digits and "_"
  std::string description = {};  // one line, for listings

  // Reads what it needs and never returns null. Throws c10::Error naming the file.
  std::function<std::shared_ptr<const Tokenizer>(const TokenizerOptions&)> open;
};

class TokenizerRegistry {
 public:
  static TokenizerRegistry with_builtins();  // "bytes" (byte_tokenizer.h)

  // Throws c10::Error when the name is no word, is taken or is "auto", or the function is missing.
  void add(TokenizerEntry entry);

  // Nothing when there is no such name.
  const TokenizerEntry* find(const std::string& name) const;

  std::vector<std::string> names() const;  // in the order in which they were added

 private:
  std::vector<TokenizerEntry> entries_;
};

// Opens options.tokenizer; "auto" is "bytes". Throws c10::Error naming model.tokenizer, what was
// got and the names there are when the registry has no such tokenizer, and what the tokenizer's own
// `open` throws.
std::shared_ptr<const Tokenizer> open_tokenizer(const TokenizerOptions& options,
                                                const TokenizerRegistry& registry);

}  // namespace tessera
