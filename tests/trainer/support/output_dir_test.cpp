#include "trainer/support/output_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/support/full_disk.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::FullDisk;
using testing::TempDir;

int64_t num_entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), {});
}

TEST(OutputDir, IsMadeWithItsParentsAndLeftEmpty) {
  const TempDir folder;
  const fs::path dump = folder.path() / "a" / "b" / "c";
  prepare_output_dir(dump.string(), 1);
  EXPECT_TRUE(fs::is_directory(dump));
  EXPECT_EQ(num_entries(dump), 0);
}

TEST(OutputDir, AnExistingFolderKeepsItsFiles) {
  const TempDir folder;
  folder.write("old.txt", "old");
  prepare_output_dir(folder.path().string(), 0);
  EXPECT_EQ(num_entries(folder.path()), 1);
  fs::create_directory_symlink(folder.path(), folder.path() / "link");
  prepare_output_dir((folder.path() / "link").string() + "/", 0);
}

TEST(OutputDir, ARelativeFolderIsTakenFromTheWorkingFolder) {
  const TempDir folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  prepare_output_dir("outputs", 0);
  fs::current_path(before);
  EXPECT_TRUE(fs::is_directory(folder.path() / "outputs"));
}

TEST(OutputDir, AnEmptyNameIsRefused) {
  EXPECT_ERROR(prepare_output_dir("", 0), "job.dump_folder is empty");
}

TEST(OutputDir, AFileInTheWayIsAnError) {
  const TempDir folder;
  const std::string file = folder.write("taken", "x");
  EXPECT_ERROR(prepare_output_dir(file, 0), "job.dump_folder", file, "Not a directory");
  EXPECT_ERROR(prepare_output_dir(file + "/run", 0), "job.dump_folder", file + "/run",
               "Not a directory");
  EXPECT_EQ(content_of(file), "x");
}

TEST(OutputDir, AFolderThatCannotBeMadeIsAnError) {
  EXPECT_ERROR(prepare_output_dir("/proc/tessera/run", 0), "job.dump_folder", "/proc/tessera/run",
               "No such file or directory");
}

TEST(OutputDir, AFolderThatCannotBeWrittenIsAnError) {
  // /proc takes no files, not even from root, for whom permission bits do not count.
  EXPECT_ERROR(prepare_output_dir("/proc", 0), "job.dump_folder: /proc is not writable");
  if (geteuid() == 0) return;
  const TempDir folder;
  chmod(folder.path().c_str(), 0500);
  EXPECT_ERROR(prepare_output_dir(folder.path().string(), 0), "job.dump_folder",
               folder.path().string(), "not writable", "Permission denied");
  chmod(folder.path().c_str(), 0700);
}

TEST(OutputDir, ADiskThatIsFullIsAnErrorAndLeavesNoProbe) {
  const TempDir folder;
  {
    const FullDisk full(100);
    EXPECT_ERROR(prepare_output_dir(folder.path().string(), 0), "job.dump_folder",
                 folder.path().string(), "not writable", "File too large");
  }
  EXPECT_EQ(num_entries(folder.path()), 0);
}

TEST(OutputDir, TooLittleSpaceSaysHowMuchIsNeeded) {
  const TempDir folder;
  EXPECT_ERROR(prepare_output_dir(folder.path().string(), int64_t{1} << 60), "job.dump_folder",
               folder.path().string(), "GiB free", "at least 1073741824.000 GiB");
}

TEST(WriteFileAtomically, WritesAndReplaces) {
  const TempDir folder;
  const std::string path = (folder.path() / "config.toml").string();
  write_file_atomically(path, "first");
  EXPECT_EQ(content_of(path), "first");
  const std::string binary("a\0b\n", 4);
  write_file_atomically(path, binary);
  EXPECT_EQ(content_of(path), binary);
  write_file_atomically(path, "");
  EXPECT_EQ(content_of(path), "");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, AFullDiskKeepsTheOldContentAndLeavesNothing) {
  const TempDir folder;
  const std::string path = folder.write("config.toml", "old");
  {
    const FullDisk full(1000);
    EXPECT_ERROR(write_file_atomically(path, std::string(5000, 'x')), "job.dump_folder", path,
                 "cannot be written", "File too large");
  }
  EXPECT_EQ(content_of(path), "old");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, AFolderInTheWayIsAnError) {
  const TempDir folder;
  const std::string path = (folder.path() / "taken").string();
  fs::create_directory(path);
  EXPECT_ERROR(write_file_atomically(path, "x"), "job.dump_folder", path, "Is a directory");
  EXPECT_EQ(num_entries(folder.path()), 1);
  EXPECT_ERROR(write_file_atomically(path + "/missing/file", "x"), "job.dump_folder",
               path + "/missing/file", "No such file or directory");
}

TEST(AppendFile, GrowsByWholeRecords) {
  const TempDir folder;
  const std::string path = folder.write("log", "0\n");
  AppendFile file(path);
  file.append("1\n");
  EXPECT_EQ(content_of(path), "0\n1\n");
  AppendFile(path).append("2\n");
  file.append("3\n");
  EXPECT_EQ(content_of(path), "0\n1\n2\n3\n");
  EXPECT_EQ(file.path(), path);
}

TEST(AppendFile, AFullDiskIsAnError) {
  AppendFile file("/dev/full");
  EXPECT_ERROR(file.append("x\n"), "job.dump_folder: /dev/full cannot be written",
               "No space left on device");
}

TEST(AppendFile, AFileThatCannotBeOpenedIsAnError) {
  const TempDir folder;
  EXPECT_ERROR(AppendFile(folder.path().string()), "job.dump_folder", folder.path().string(),
               "cannot be opened for writing", "Is a directory");
}

}  // namespace
}  // namespace tessera
