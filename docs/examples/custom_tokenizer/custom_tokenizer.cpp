// A custom tokenizer, as a shared library.
#include "models/extension.h"

namespace {

// Ids are ASCII codes; whatever is none becomes "?". A document ends with 128.
class AsciiTokenizer final : public tessera::Tokenizer {
 public:
  void encode(std::string_view text, std::vector<int64_t>& ids) const override {
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) < kEos ? c : '?');
  }

  std::string decode(const std::vector<int64_t>& ids) const override {
    std::string text;
    for (const int64_t id : ids) {
      if (id != kEos) text += static_cast<char>(id);
    }
    return text;
  }

  int64_t vocab_size() const override { return kEos + 1; }
  std::optional<int64_t> bos_id() const override { return std::nullopt; }
  std::optional<int64_t> eos_id() const override { return kEos; }
  std::optional<int64_t> pad_id() const override { return std::nullopt; }
  std::string name() const override { return "ascii"; }

 private:
  static constexpr int64_t kEos = 128;
};

}  // namespace

TESSERA_EXTENSION(registries) {
  registries.tokenizers.add(
      {.name = "ascii", .description = "a token per ASCII character", .open = [](const auto&) {
         return std::make_shared<AsciiTokenizer>();
       }});
}
