#include "data/tokenizers/byte_tokenizer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/errors.h"

namespace tessera {
namespace {

std::string all_bytes() {
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  return bytes;
}

TEST(ByteTokenizer, IdsAreByteValues) {
  std::vector<int64_t> expected(256);
  std::iota(expected.begin(), expected.end(), 0);
  std::vector<int64_t> ids;
  ByteTokenizer().encode(all_bytes(), ids);
  EXPECT_EQ(ids, expected);
}

TEST(ByteTokenizer, RoundTripsAllBytes) {
  std::vector<int64_t> ids;
  ByteTokenizer().encode(all_bytes(), ids);
  EXPECT_EQ(ByteTokenizer().decode(ids), all_bytes());
}

TEST(ByteTokenizer, EncodeAppends) {
  std::vector<int64_t> ids = {ByteTokenizer::kBos};
  ByteTokenizer().encode("hi", ids);
  ByteTokenizer().encode("", ids);
  ByteTokenizer().encode("!", ids);
  EXPECT_EQ(ids, (std::vector<int64_t>{256, 'h', 'i', '!'}));
}

TEST(ByteTokenizer, SpecialIdsDecodeToNothing) {
  EXPECT_EQ(ByteTokenizer().decode({256, 'a', 258, 'b', 257}), "ab");
  EXPECT_EQ(ByteTokenizer().decode({}), "");
}

TEST(ByteTokenizer, DecodeRefusesIdsOutsideTheVocabulary) {
  EXPECT_ERROR(ByteTokenizer().decode({'a', 259}), "ids[1]", "259", "[0, 259)");
  EXPECT_ERROR(ByteTokenizer().decode({-1}), "ids[0]", "-1", "[0, 259)");
}

TEST(ByteTokenizer, SpecialIds) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.vocab_size(), 259);
  EXPECT_EQ(tokenizer.bos_id(), 256);
  EXPECT_EQ(tokenizer.eos_id(), 257);
  EXPECT_EQ(tokenizer.pad_id(), 258);
  EXPECT_EQ(tokenizer.name(), "bytes");
}

}  // namespace
}  // namespace tessera
