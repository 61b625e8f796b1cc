#include "data/tokenizers/byte_tokenizer.h"

#include <c10/util/Exception.h>

namespace tessera {

void ByteTokenizer::encode(std::string_view text, std::vector<int64_t>& ids) const {
  const size_t begin = ids.size();
  ids.resize(begin + text.size());
  int64_t* out = ids.data() + begin;
  for (size_t i = 0; i < text.size(); ++i) out[i] = static_cast<unsigned char>(text[i]);
}

std::string ByteTokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string text(ids.size(), '\0');
  size_t size = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    TORCH_CHECK(ids[i] >= 0 && ids[i] < vocab_size(), "ids[", i, "]: got ", ids[i],
                ", expected a byte-level token id in [0, ", vocab_size(), ")");
    if (ids[i] < kBos) text[size++] = static_cast<char>(ids[i]);
  }
  text.resize(size);
  return text;
}

}  // namespace tessera
