#include "data/sources/text_source.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/data/sources/unprivileged.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::TempDir;
using testing::Unprivileged;

TEST(TextFiles, EachFileIsADocument) {
  const TempDir dir;
  const std::string b = dir.write("b.py", "second");
  const std::string a = dir.write("a/x.h", "first\n");
  dir.write("a/x.bin", "not text");
  const auto source = open_text_source({"text_files", dir.path().string()});
  ASSERT_EQ(source->num_documents(), 2);
  EXPECT_EQ(source->text(0), "first\n");
  EXPECT_EQ(source->text(1), "second");
  EXPECT_EQ(source->location(0), a);
  EXPECT_EQ(source->location(1), b);
  EXPECT_ERROR(source->text(2), "index 2", "[0, 2)");
  EXPECT_ERROR(source->location(-1), "index -1", "[0, 2)");
}

TEST(TextFiles, SourcesAndHeadersOfAFolder) {
  const TempDir dir;
  for (const char* suffix : {"c", "cc", "cpp", "cu", "cuh", "cxx", "h", "hpp", "hxx", "py", "md",
                             "txt", "so", "json", "jsonl", "pyc", "H"}) {
    dir.write(std::string("file.") + suffix, "text");
  }
  const auto source = open_text_source({"text_files", dir.path().string()});
  EXPECT_EQ(source->num_documents(), 12);
}

TEST(TextFiles, BytesAreAsStored) {
  const TempDir dir;
  const std::string bytes("\0\r\n\xEF\xBB\xBF\xFF", 7);
  const std::string path = dir.write("x.txt", bytes);
  const auto source = open_text_source({"text_files", path});
  EXPECT_EQ(source->text(0), bytes);
}

TEST(TextFiles, InvalidUtf8IsReplacedOrRefused) {
  const TempDir dir;
  const std::string path = dir.write("x.txt", "ab\xC3\xA9\xE2\x82z\xFF");
  const auto source = open_text_source({"text_files", path});
  const SourceDocument document = source->read(0, InvalidUtf8::kReplace);
  EXPECT_EQ(document.text, "ab\xC3\xA9\xEF\xBF\xBDz\xEF\xBF\xBD");
  EXPECT_EQ(document.num_replaced, 2);
  EXPECT_ERROR(source->read(0, InvalidUtf8::kRefuse), path, "invalid UTF-8 at byte 4 (0xE2)");
}

TEST(TextFiles, ValidUtf8PassesBothWays) {
  const TempDir dir;
  const auto source = open_text_source({"text_files", dir.write("x.txt", "na\xC3\xAFve")});
  for (const InvalidUtf8 policy : {InvalidUtf8::kReplace, InvalidUtf8::kRefuse}) {
    const SourceDocument document = source->read(0, policy);
    EXPECT_EQ(document.text, "na\xC3\xAFve");
    EXPECT_EQ(document.num_replaced, 0);
  }
}

TEST(TextFiles, AllFilesEmptyIsAnError) {
  const TempDir dir;
  const std::string a = dir.write("a.txt", "");
  dir.write("b.txt", "");
  EXPECT_ERROR(open_text_source({"text_files", dir.path().string()}), "training.dataset_path",
               "all 2 files are empty", a);
  dir.write("c.txt", "text");
  EXPECT_EQ(open_text_source({"text_files", dir.path().string()})->num_documents(), 3);
}

TEST(TextFiles, AFileThatWentAwayIsNamed) {
  const TempDir dir;
  dir.write("a.txt", "text");
  const std::string b = dir.write("b.txt", "text");
  const auto source = open_text_source({"text_files", dir.path().string()});
  std::filesystem::remove(b);
  EXPECT_EQ(source->text(0), "text");
  EXPECT_ERROR(source->text(1), b, "No such file or directory");
}

TEST(TextFiles, AnUnreadableFileIsNamed) {
  const TempDir dir;
  dir.write("a.txt", "text");
  const std::string b = dir.write("b.txt", "text");
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(b, std::filesystem::perms::none);
  const Unprivileged user;
  const auto source = open_text_source({"text_files", dir.path().string()});
  EXPECT_EQ(source->text(0), "text");
  EXPECT_ERROR(source->text(1), "cannot open " + b, "Permission denied");
}

TEST(TextSource, UnknownKindsAreRefused) {
  EXPECT_ERROR(open_text_source({"parquet", "/tmp"}), "training.dataset", "'parquet'",
               "'text_files' or 'jsonl'");
}

TEST(TextSource, FindingErrorsPassThrough) {
  EXPECT_ERROR(open_text_source({"text_files", "/no/such"}), "training.dataset_path", "/no/such");
  EXPECT_ERROR(open_text_source({"jsonl", "/no/such"}), "training.dataset_path", "/no/such");
}

}  // namespace
}  // namespace tessera
