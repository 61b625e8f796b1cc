// Tokenizer: text to token ids and back.
//
//   const ByteTokenizer tokenizer;   // byte_tokenizer.h
//   std::vector<int64_t> ids;
//   tokenizer.encode("ab", ids);     // {97, 98}
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `text` to `ids`; adds no special tokens.
  virtual void encode(std::string_view text, std::vector<int64_t>& ids) const = 0;
  virtual std::string decode(const std::vector<int64_t>& ids) const = 0;

  virtual int64_t vocab_size() const = 0;  // ids are in [0, vocab_size), special ones included

  // Special tokens; no value when the tokenizer has none of that kind.
  virtual std::optional<int64_t> bos_id() const = 0;
  virtual std::optional<int64_t> eos_id() const = 0;
  virtual std::optional<int64_t> pad_id() const = 0;
  virtual std::string name() const = 0;  // for the start banner
};

}  // namespace tessera
