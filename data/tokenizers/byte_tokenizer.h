// The byte-level tokenizer, which needs no files: it is registered as "bytes".
#pragma once

#include "data/tokenizers/tokenizer.h"

namespace tessera {

// A byte-level tokenizer: id = byte value, then BOS = 256, EOS = 257, PAD = 258. encode and decode
// are exact inverses on bytes.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int64_t kBos = 256;
  static constexpr int64_t kEos = 257;
  static constexpr int64_t kPad = 258;

  void encode(std::string_view text, std::vector<int64_t>& ids) const override;
  // Special ids decode to nothing. Throws c10::Error for an id outside [0, vocab_size).
  std::string decode(const std::vector<int64_t>& ids) const override;
  int64_t vocab_size() const override { return 259; }
  std::optional<int64_t> bos_id() const override { return kBos; }
  std::optional<int64_t> eos_id() const override { return kEos; }
  std::optional<int64_t> pad_id() const override { return kPad; }
  std::string name() const override { return "bytes"; }
};

}  // namespace tessera
