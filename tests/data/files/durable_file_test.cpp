#include "data/files/durable_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "data/files/crc32c.h"
#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::TempDir;

TEST(Crc32c, MatchesPublishedValues) {
  // RFC 3720, appendix B.4, and the customary check value.
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0').data(), 32), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff').data(), 32), 0x62a8ab43u);
  EXPECT_EQ(crc32c("", 0), 0u);
  EXPECT_EQ(crc32c_by_tables("123456789", 9), 0xe3069283u);
}

TEST(Crc32c, InstructionAndTablesAgreeOnPiecesOfAnyLength) {
  std::mt19937 random(7);
  std::string bytes(300, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  const uint32_t whole = crc32c(bytes.data(), bytes.size());
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const char* rest = bytes.data() + cut;
    const size_t num_rest = bytes.size() - cut;
    EXPECT_EQ(crc32c(rest, num_rest, crc32c(bytes.data(), cut)), whole) << cut;
    EXPECT_EQ(crc32c_by_tables(rest, num_rest, crc32c_by_tables(bytes.data(), cut)), whole) << cut;
  }
}

TEST(DurableFile, CommitLeavesOneFileWithTheDigestOfItsContent) {
  const TempDir dir;
  const std::string path = (dir.path() / "a.bin").string();
  DurableFile file(path);
  file.write("1234", 4);
  EXPECT_FALSE(fs::exists(path));
  file.write("56789", 5);
  const FileDigest digest = file.commit();
  EXPECT_EQ(digest, (FileDigest{.num_bytes = 9, .crc32c = 0xe3069283}));
  EXPECT_EQ(digest_of_file(path), digest);
  EXPECT_EQ(content_of(path), "123456789");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

TEST(DurableFile, WithoutCommitTheOldFileStays) {
  const TempDir dir;
  const std::string path = dir.write("a.bin", "old");
  { DurableFile(path).write("new", 3); }
  EXPECT_EQ(content_of(path), "old");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
  write_durable_file(path, "new");
  EXPECT_EQ(content_of(path), "new");
}

TEST(DurableFile, ErrorsNameThePathAndTheReason) {
  const TempDir dir;
  const std::string missing = (dir.path() / "missing" / "a.bin").string();
  EXPECT_ERROR(DurableFile{missing}, "cannot create", missing, "No such file or directory");
  EXPECT_ERROR(digest_of_file(missing), "cannot open", missing, "No such file or directory");
  EXPECT_ERROR(sync_folder(missing), "cannot open folder", missing, "No such file or directory");

  // A device that is always full stands behind the temporary name.
  const std::string full = (dir.path() / "full.bin").string();
  fs::create_symlink("/dev/full", full + ".tmp");
  EXPECT_ERROR(write_durable_file(full, "content"), "cannot write", full,
               "No space left on device");
  EXPECT_FALSE(fs::is_symlink(full + ".tmp"));
  EXPECT_FALSE(fs::exists(full));
}

class PublishFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.write("new/a", "new");
    dir_.write("old/a", "old");
  }
  void expect_published() const {
    EXPECT_EQ(content_of(path("old") + "/a"), "new");
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path()), fs::directory_iterator()), 1);
  }
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }

  TempDir dir_;
};

TEST_F(PublishFolder, TakesAFreeName) {
  fs::remove_all(path("old"));
  publish_folder(path("new"), path("old"));
  expect_published();
}

TEST_F(PublishFolder, ReplacesAFolder) {
  publish_folder(path("new"), path("old"));
  expect_published();
}

TEST_F(PublishFolder, ReplacesAFolderWhereExchangingIsNotSupported) {
  publish_folder(path("new"), path("old"),
                 [](const std::string&, const std::string&) { return EINVAL; });
  expect_published();
}

TEST_F(PublishFolder, ReportsOtherFailures) {
  EXPECT_ERROR(publish_folder(path("new"), path("old"),
                              [](const std::string&, const std::string&) { return EACCES; }),
               path("new"), path("old"), "Permission denied");
  EXPECT_EQ(content_of(path("old") + "/a"), "old");
  EXPECT_ERROR(publish_folder(path("absent"), path("free")), "cannot rename", path("absent"),
               "No such file or directory");
}

}  // namespace
}  // namespace tessera
