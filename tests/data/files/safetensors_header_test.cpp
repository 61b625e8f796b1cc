// Files that are not what the format says.
#include "data/files/safetensors_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>

#include "data/files/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::content_of;
using testing::golden;
using testing::TempDir;

// A file with this header and data.
std::string file_bytes(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

class Malformed : public ::testing::Test {
 protected:
  void expect_error(const std::string& bytes, std::initializer_list<std::string> parts) {
    const std::string path = dir_.write("bad.safetensors", bytes);
    const std::string message = testing::message_of([&] { SafetensorsFile file(path); });
    EXPECT_NE(message.find(path), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "expected " << part << " in: " << message;
    }
  }
  void expect_valid(const std::string& bytes) {
    const std::string path = dir_.write("good.safetensors", bytes);
    EXPECT_EQ(testing::message_of([&] { SafetensorsFile file(path); }), "");
  }

  TempDir dir_;
};

TEST_F(Malformed, SmallestFilesAreValid) {
  expect_valid(file_bytes("{}"));
  expect_valid(file_bytes("{}      "));
  expect_valid(file_bytes(R"({"a":)" + entry("[]", "[0,4]") + "}", "1234"));
  expect_valid(file_bytes(R"({"a":)" + entry("[0,5]", "[0,0]") + "}"));
  expect_valid(file_bytes(R"({"":)" + entry("[1]", "[0,4]") + "}", "1234"));
}

TEST_F(Malformed, Length) {
  expect_error("", {"0 bytes"});
  expect_error("1234567", {"7 bytes"});
  expect_error(std::string("\x02\0\0\0\0\0\0\0", 8), {"header length is 2", "only 0 bytes"});
  expect_error(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}", {"100000001", "100000000"});
  expect_error(std::string(8, '\xff') + "{}", {"18446744073709551615"});
  expect_error(file_bytes(""), {"does not start with {"});
  expect_error(file_bytes(" {}"), {"does not start with {"});
}

TEST_F(Malformed, Json) {
  expect_error(file_bytes("{"), {"not valid JSON"});
  expect_error(file_bytes("{} x"), {"not valid JSON"});
  expect_error(file_bytes(std::string("{}\0", 3)), {"not valid JSON"});
  expect_error(file_bytes("{\"\xff\":1}"), {"not valid JSON", "UTF-8"});
  expect_error(file_bytes("{" + std::string(100000, '{')), {"not valid JSON"});
  expect_error(file_bytes(R"({"a":)" + std::string(100000, '[')), {"\"a\"", "got an array"});
}

TEST_F(Malformed, Values) {
  expect_error(file_bytes(R"({"a":1})"), {"\"a\"", "the number 1", "expected an object"});
  expect_error(file_bytes(R"({"a":null})"), {"\"a\"", "null", "expected an object"});
  expect_error(file_bytes(R"({"a":{"dtype":32}})"), {"\"a\"", "\"dtype\"", "32", "a string"});
  expect_error(file_bytes(R"({"a":{"shape":"x"}})"), {"\"a\"", "\"shape\"", "an array"});
  expect_error(file_bytes(R"({"a":{"shape":[true]}})"), {"\"shape\"", "a boolean", "sizes"});
  expect_error(file_bytes(R"({"a":{"shape":{}}})"), {"\"shape\"", "an object"});
  expect_error(file_bytes(R"({"a":{"offsets":[0,4]}})"), {"\"a\"", "\"offsets\"", "unknown field"});
  expect_error(file_bytes(R"({"a":{"dtype":"F33"}})"), {"\"a\"", "F33", "BF16"});
  expect_error(file_bytes(R"({"a":{"dtype":"F32","shape":[1]}})"), {"\"a\"", "data_offsets"});
  expect_error(file_bytes(R"({"a":{}})"), {"\"a\"", "dtype"});
}

TEST_F(Malformed, Duplicates) {
  const std::string scalar = entry("[]", "[0,4]");
  expect_error(file_bytes(R"({"a":)" + scalar + R"(,"a":)" + scalar + "}", "1234"),
               {"\"a\"", "twice"});
  expect_error(file_bytes(R"({"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})"),
               {"\"a\"", "\"dtype\"", "twice"});
  expect_error(file_bytes(R"({"__metadata__":{"k":"a","k":"b"}})"), {"\"k\"", "twice"});
  expect_error(file_bytes(R"({"__metadata__":{},"__metadata__":{}})"), {"__metadata__", "twice"});
}

TEST_F(Malformed, Metadata) {
  expect_error(file_bytes(R"({"__metadata__":{"k":1}})"), {"\"k\"", "the number 1", "a string"});
  expect_error(file_bytes(R"({"__metadata__":{"k":{}}})"), {"\"k\"", "an object", "a string"});
  expect_error(file_bytes(R"({"__metadata__":"k"})"), {"__metadata__", "expected an object"});
}

TEST_F(Malformed, ShapesAndOffsets) {
  const auto one = [](const std::string& shape, const std::string& offsets,
                      const std::string& dtype = "F32") {
    return file_bytes(R"({"a":)" + entry(shape, offsets, dtype) + "}", "12345678");
  };
  expect_valid(one("[2]", "[0,8]"));
  expect_error(one("[-1]", "[0,8]"), {"\"a\"", "-1"});
  expect_error(one("[1.5]", "[0,8]"), {"\"a\"", "1.5"});
  expect_error(one("[9223372036854775808]", "[0,8]"), {"\"a\"", "9223372036854775808"});
  expect_error(one("[99999999999999999999]", "[0,8]"), {"\"a\"", "99999999999999999999"});
  expect_error(one("[2]", "[0]"), {"\"a\"", "data_offsets", "expected 2"});
  expect_error(one("[2]", "[0,8,8]"), {"\"a\"", "data_offsets"});
  expect_error(one("[2]", "[8,0]"), {"\"a\"", "[8, 0]", "begin <= end"});
  expect_error(one("[3]", "[0,8]"), {"\"a\"", "8 bytes", "12"});
  expect_error(one("[2]", "[0,16]"), {"\"a\"", "16 bytes", "8"});
  expect_error(one("[4]", "[0,16]"), {"describes 16", "has 8", "truncated"});
  expect_error(one("[1]", "[0,4]"), {"describes 4", "has 8", "left over"});
  expect_error(one("[1]", "[4,8]"), {"\"a\"", "a hole"});
  // 2^62 x 4 = 2^64 elements; 2^61 float32 = 2^66 bits; 2^63 - 1 bytes; an absurd but empty tensor.
  expect_error(one("[4611686018427387904,4]", "[0,0]"), {"\"a\"", "too large"});
  expect_error(one("[2305843009213693952]", "[0,0]"), {"\"a\"", "too large"});
  expect_error(one("[9223372036854775807]", "[0,8]", "U8"), {"\"a\"", "too large"});
  expect_error(one("[0,4611686018427387904,4]", "[0,0]"), {"\"a\"", "too large"});
}

TEST_F(Malformed, HolesAndOverlaps) {
  const auto two = [](const std::string& a, const std::string& b) {
    return file_bytes(R"({"a":)" + entry("[1]", a) + R"(,"b":)" + entry("[1]", b) + "}",
                      "123456789012");
  };
  expect_error(two("[0,4]", "[8,12]"), {"\"b\"", "byte 8", "expected 4", "a hole"});
  expect_error(two("[4,8]", "[2,6]"), {"\"b\"", "byte 2", "expected 0"});
  expect_error(two("[0,4]", "[2,6]"), {"\"b\"", "byte 2", "expected 4", "overlap"});
  expect_error(two("[0,4]", "[0,4]"), {"expected 4", "overlap"});
}

TEST_F(Malformed, NarrowTypes) {
  const auto file = [](const std::string& dtype, const std::string& shape, size_t num_bytes) {
    return file_bytes(
        R"({"a":)" + entry(shape, "[0," + std::to_string(num_bytes) + "]", dtype) + "}",
        std::string(num_bytes, '\1'));
  };
  expect_valid(file("F4", "[2,3]", 3));
  expect_valid(file("F6_E2M3", "[4]", 3));
  expect_error(file("F4", "[3]", 2), {"\"a\"", "whole bytes"});
  expect_error(file("F6_E3M2", "[5]", 4), {"\"a\"", "whole bytes"});
  const SafetensorsFile narrow(dir_.write("f4.safetensors", file("F4", "[2]", 1)));
  EXPECT_ERROR(narrow.get("a"), "f4.safetensors", "\"a\"", "F4");
}

TEST_F(Malformed, BoolsThatAreNeither) {
  const std::string header = R"({"a":)" + entry("[2]", "[0,2]", "BOOL") + "}";
  const std::string path = dir_.write("b.safetensors", file_bytes(header, std::string("\1\2")));
  const SafetensorsFile file(path);
  EXPECT_ERROR(file.get("a"), path, "\"a\"", "element 1", "is 2");
}

TEST_F(Malformed, NotAFile) {
  const std::string missing = (dir_.path() / "missing").string();
  EXPECT_ERROR(SafetensorsFile{missing}, "cannot open", missing, "No such file or directory");
  EXPECT_ERROR(SafetensorsFile{dir_.path().string()}, dir_.path().string(), "not a regular file");
}

// Any bytes give an error with the path, or tensors that lie within them. The parser sees a buffer
// of exactly their size, so that the sanitizer build reports any stray read.
class AnyBytes : public Malformed {
 protected:
  // Returns whether the bytes are a valid file.
  bool try_bytes(const std::string& bytes) {
    const std::vector<char> exact(bytes.begin(), bytes.end());
    try {
      parse_safetensors_header({exact.data(), exact.size()}, "PATH");
    } catch (const c10::Error& error) {
      EXPECT_TRUE(std::string(error.what_without_backtrace()).starts_with("PATH: "));
      return false;
    }
    const std::string path = dir_.write(std::to_string(num_valid_++), bytes);
    const SafetensorsFile file(path);
    for (const std::string& name : file.names()) read(file, name);
    fs::remove(path);
    return true;
  }

  int num_valid_ = 0;

 private:
  static void read(const SafetensorsFile& file, const std::string& name) {
    try {
      EXPECT_EQ(file.get(name).sizes(), at::IntArrayRef(file.sizes(name)));
    } catch (const c10::Error& error) {  // a dtype without tensors, or a BOOL of 7
      EXPECT_NE(std::string(error.what_without_backtrace()).find(file.path()), std::string::npos);
    }
  }
};

TEST_F(AnyBytes, EveryTruncationIsAnError) {
  const std::string whole = content_of(golden("models/dtypes.safetensors"));
  EXPECT_TRUE(try_bytes(whole));
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(try_bytes(whole.substr(0, size)));
  EXPECT_FALSE(try_bytes(whole + '\0'));
}

TEST_F(AnyBytes, EveryChangeOfAHeaderByteIsAnErrorOrAReadableFile) {
  const std::string data = std::string(16, '\7') + "\0\1\0"s;
  const std::string bytes =
      file_bytes(R"({"__metadata__":{"k":"v"},"a":)" + entry("[2,2]", "[0,16]") + R"(,"b":)" +
                     entry("[3]", "[16,19]", "BOOL") + "} ",
                 data);
  int num_tried = 0;
  for (size_t at = 0; at < bytes.size() - data.size(); ++at) {
    for (int value = 0; value < 256; ++value, ++num_tried) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(value);
      try_bytes(changed);
    }
  }
  EXPECT_GT(num_valid_, 100);  // other letters in names, for one
  EXPECT_LT(num_valid_, num_tried / 10);
}

TEST_F(AnyBytes, RandomPiecesOfHeadersAreAnErrorOrAReadableFile) {
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "[",
                                           "]",
                                           ",",
                                           ":",
                                           "\"a\"",
                                           "\"dtype\"",
                                           "\"shape\"",
                                           "\"data_offsets\"",
                                           "\"F32\"",
                                           "\"__metadata__\"",
                                           "0",
                                           "4",
                                           "18446744073709551615",
                                           "-1",
                                           "1e3",
                                           "null",
                                           "true",
                                           "\"\\ud800\"",
                                           R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"};
  constexpr unsigned kSeed = 11;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 5000; ++round) {
    std::string header = "{\"a\":";
    for (unsigned i = random() % 12; i > 0; --i) header += pieces[random() % pieces.size()];
    SCOPED_TRACE("seed " + std::to_string(kSeed) + ", header " + header);
    try_bytes(file_bytes(header + (random() % 2 == 0 ? "}" : ""), std::string(4, '\0')));
  }
  EXPECT_GT(num_valid_, 0);
}

}  // namespace
}  // namespace tessera
