#include "data/sources/utf8.h"

#include <gtest/gtest.h>

#include <cstring>

#include "data/files/file_io.h"
#include "tests/support/golden.h"

namespace tessera {
namespace {

using testing::golden;

std::string repaired(std::string text) {
  replace_invalid_utf8(text);
  return text;
}

// R stands for U+FFFD in what is expected.
struct IllFormed {
  std::string bytes;
  std::string expected;
  size_t first_bad;
};

std::string with_replacements(const std::string& pattern) {
  std::string text;
  for (char c : pattern) text += c == 'R' ? "\xEF\xBF\xBD" : std::string(1, c);
  return text;
}

const IllFormed kIllFormed[] = {
    {"\x80", "R", 0},                                           // continuation byte alone
    {"a\xBFz", "aRz", 1},                                       //
    {"\xC3", "R", 0},                                           // cut short at the end
    {"ab\xE2\x82", "abR", 2},                                   //
    {"\xF0\x9F\x98", "R", 0},                                   //
    {"\xE2\x82z", "Rz", 0},                                     // cut short by another character
    {"\xF0\x9F\x98z", "Rz", 0},                                 //
    {"\xE2\xE2\x82", "RR", 0},                                  // a lead byte ends a sequence
    {"\xC0\xAF", "RR", 0},                                      // overlong
    {"\xC1\xBF", "RR", 0},                                      //
    {"\xE0\x80\xAF", "RRR", 0},                                 //
    {"\xE0\x9F\xBF", "RRR", 0},                                 //
    {"\xF0\x80\x80\xAF", "RRRR", 0},                            //
    {"\xF0\x8F\xBF\xBF", "RRRR", 0},                            //
    {"\xED\xA0\x80", "RRR", 0},                                 // surrogates
    {"\xED\xBF\xBF", "RRR", 0},                                 //
    {"\xF4\x90\x80\x80", "RRRR", 0},                            // above U+10FFFF
    {"\xF5\x80\x80\x80", "RRRR", 0},                            //
    {"\xFE\xFF", "RR", 0},                                      //
    {"a\xF1\x80\x80\xE1\x80\xC2", "aRRR", 1},                   // Unicode, table 3-8
    {"\xC3\xA9\xC3", "\xC3\xA9R", 2},                           // well-formed characters stay
    {std::string("\0\xFF", 2), std::string("\0", 1) + "R", 1},  // NUL is a character
};

TEST(Utf8, ReplacesMaximalIllFormedSubsequences) {
  for (const IllFormed& c : kIllFormed) {
    const std::string expected = with_replacements(c.expected);
    EXPECT_EQ(repaired(c.bytes), expected) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(find_invalid_utf8(c.bytes), c.first_bad) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(find_invalid_utf8(expected), std::nullopt);
  }
}

TEST(Utf8, CountsReplacements) {
  std::string text = "a\xFF\xE2\x82z\xC0\xAF";
  EXPECT_EQ(replace_invalid_utf8(text), 4);
  text = "plain";
  EXPECT_EQ(replace_invalid_utf8(text), 0);
}

TEST(Utf8, LeavesWellFormedTextAlone) {
  const std::string boundaries(
      "\0\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
      "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
      26);
  for (const std::string& text : {std::string(), std::string("ascii"), boundaries}) {
    EXPECT_EQ(find_invalid_utf8(text), std::nullopt);
    EXPECT_EQ(repaired(text), text);
  }
}

TEST(Utf8, AgreesWithPythonOnRandomBytes) {
  const std::string file = read_file(golden("data/utf8_replace.bin"));
  size_t at = 0;
  const auto next_string = [&] {
    uint32_t size = 0;
    std::memcpy(&size, file.data() + at, sizeof size);
    const std::string text = file.substr(at + sizeof size, size);
    at += sizeof size + size;
    return text;
  };
  int num_cases = 0;
  while (at < file.size()) {
    const std::string bytes = next_string();
    const std::string expected = next_string();
    EXPECT_EQ(repaired(bytes), expected) << ::testing::PrintToString(bytes);
    EXPECT_EQ(find_invalid_utf8(bytes).has_value(), bytes != expected)
        << ::testing::PrintToString(bytes);
    ++num_cases;
  }
  EXPECT_EQ(num_cases, 400);
}

}  // namespace
}  // namespace tessera
