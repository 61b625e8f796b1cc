#include "data/sources/jsonl_source.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::TempDir;

class Jsonl : public ::testing::Test {
 protected:
  std::unique_ptr<TextSource> open(const std::string& content) {
    path_ = dir_.write("data.jsonl", content);
    return open_text_source({"jsonl", path_});
  }

  // The error of the one line `line`, which stands second in a file.
  void expect_line_error(const std::string& line, const std::string& part) {
    const auto source = open("{\"text\": \"fine\"}\n" + line + "\n");
    ASSERT_EQ(source->num_documents(), 2);
    EXPECT_EQ(source->text(0), "fine");
    EXPECT_ERROR(source->text(1), path_ + ":2: ", part);
  }

  TempDir dir_;
  std::string path_;
};

TEST_F(Jsonl, EachLineIsADocument) {
  const auto source = open(
      "{\"text\": \"one\", \"id\": 1}\n"
      "{\"meta\": {\"text\": \"inner\"}, \"text\": \"two\\n\\u00e9\\ud83d\\ude00\\u0000.\"}\r\n"
      "{\"text\": \"\"}\n"
      " {\"text\": \"last, without newline\"} ");
  ASSERT_EQ(source->num_documents(), 4);
  EXPECT_EQ(source->text(0), "one");
  EXPECT_EQ(source->text(1), std::string("two\n\xC3\xA9\xF0\x9F\x98\x80\0.", 12));
  EXPECT_EQ(source->text(2), "");
  EXPECT_EQ(source->text(3), "last, without newline");
  EXPECT_EQ(source->location(3), path_ + ":4");
  EXPECT_ERROR(source->text(4), "index 4", "[0, 4)");
}

TEST_F(Jsonl, BlankLinesAreEmptyDocuments) {
  const auto source = open("{\"text\": \"a\"}\n\n \t\r\n{\"text\": \"b\"}\n");
  ASSERT_EQ(source->num_documents(), 4);
  EXPECT_EQ(source->text(1), "");
  EXPECT_EQ(source->text(2), "");
  EXPECT_EQ(source->text(3), "b");
  EXPECT_EQ(source->location(3), path_ + ":4");
}

TEST_F(Jsonl, LongLinesAndManyLines) {
  const std::string long_text(300'000, 'x');  // longer than what is read at a time
  std::string content = "{\"text\": \"" + long_text + "\"}\n";
  for (int i = 0; i < 30'000; ++i) content += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  const auto source = open(content);
  ASSERT_EQ(source->num_documents(), 30'001);
  EXPECT_EQ(source->text(0), long_text);
  for (int64_t i = 0; i < 30'000; i += 17) EXPECT_EQ(source->text(i + 1), std::to_string(i));
}

TEST_F(Jsonl, FilesFollowOneAnother) {
  dir_.write("set/b.jsonl", "{\"text\": \"3\"}\n");
  dir_.write("set/a.jsonl", "{\"text\": \"1\"}\n{\"text\": \"2\"}");
  dir_.write("set/b-empty.jsonl", "");
  dir_.write("set/c.json", "{\"text\": \"4\"}\n");
  dir_.write("set/notes.txt", "not JSON");
  const std::string folder = (dir_.path() / "set").string();
  const auto source = open_text_source({"jsonl", folder});
  ASSERT_EQ(source->num_documents(), 4);
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(source->text(i), std::to_string(i + 1));
  EXPECT_EQ(source->location(1), folder + "/a.jsonl:2");
  EXPECT_EQ(source->location(2), folder + "/b.jsonl:1");
}

TEST_F(Jsonl, SkipsAByteOrderMark) {
  const auto source = open("\xEF\xBB\xBF{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  EXPECT_EQ(source->text(0), "a");
  EXPECT_EQ(source->text(1), "b");
}

TEST_F(Jsonl, ErrorsNameFileAndLine) {
  expect_line_error("{\"text\": \"a\"", "not valid JSON");
  expect_line_error("{\"text\": \"a\"} {}", "not valid JSON");
  expect_line_error("text", "not valid JSON");
  expect_line_error("{\"text\": \"\\ud83d\"}", "not valid JSON");
  expect_line_error("[\"text\"]", "got an array, expected an object with a field `text`");
  expect_line_error("\"text\"", "got a string, expected an object");
  expect_line_error("3", "got a number, expected an object");
  expect_line_error("null", "got null, expected an object");
  expect_line_error("{\"Text\": \"a\"}", "no field `text`");
  expect_line_error("{}", "no field `text`");
  expect_line_error("{\"text\": 3.5}", "`text` is a number, expected a string");
  expect_line_error("{\"text\": true}", "`text` is a boolean, expected a string");
  expect_line_error("{\"text\": null}", "`text` is null, expected a string");
  expect_line_error("{\"text\": {}}", "`text` is an object, expected a string");
  expect_line_error("{\"text\": []}", "`text` is an array, expected a string");
}

TEST_F(Jsonl, InvalidUtf8IsReplacedOrRefused) {
  const auto source = open("{\"text\": \"fine\"}\n{\"text\": \"a\xFF\xE2\x82z\"}\n");
  const SourceDocument document = source->read(1, InvalidUtf8::kReplace);
  EXPECT_EQ(document.text, "a\xEF\xBF\xBD\xEF\xBF\xBDz");
  EXPECT_EQ(document.num_replaced, 2);
  EXPECT_ERROR(source->read(1, InvalidUtf8::kRefuse), path_ + ":2: ", "at byte 11 (0xFF)");
  EXPECT_EQ(source->read(0, InvalidUtf8::kRefuse).num_replaced, 0);
}

TEST_F(Jsonl, AllFilesEmptyIsAnError) {
  EXPECT_ERROR(open(""), "training.dataset_path", "all 1 files are empty", path_);
}

TEST_F(Jsonl, UnreadableFilesAreNamed) {
  const std::string missing = (dir_.path() / "missing.jsonl").string();
  EXPECT_ERROR(open_jsonl_files({missing}), missing, "No such file or directory");
}

TEST_F(Jsonl, AFileThatShrankIsNamed) {
  const auto source = open("{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  std::filesystem::resize_file(path_, 20);
  EXPECT_EQ(source->text(0), "a");
  EXPECT_ERROR(source->text(1), path_, "it ends at byte 20", "at least 28 bytes");
}

}  // namespace
}  // namespace tessera
