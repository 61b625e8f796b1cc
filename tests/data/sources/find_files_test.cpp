#include "data/sources/find_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/data/sources/unprivileged.h"
#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::TempDir;
using testing::Unprivileged;

class FindFiles : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }

  std::string write(const std::string& name) const { return dir_.write(name, "text"); }

  void link(const std::string& target, const std::string& name) const {
    std::filesystem::create_symlink(target, path(name));
  }

  // Results relative to the folder.
  std::vector<std::string> find(const std::string& dataset_path) const {
    std::vector<std::string> names;
    for (const std::string& file : find_files(dataset_path, {".h", ".txt"})) {
      EXPECT_TRUE(file.starts_with(path("")));
      names.push_back(file.substr(path("").size()));
    }
    return names;
  }

  using Names = std::vector<std::string>;
  TempDir dir_;
};

TEST_F(FindFiles, FoldersAreSearchedRecursivelyBySuffix) {
  for (const char* name : {"b/deep/er/x.h", "a.txt", "b/y.h", "b.h", "b/skip.o", "skip", "b/h"}) {
    write(name);
  }
  EXPECT_EQ(find(path("")), (Names{"a.txt", "b.h", "b/deep/er/x.h", "b/y.h"}));
  EXPECT_EQ(find(path("b")), (Names{"b/deep/er/x.h", "b/y.h"}));
  EXPECT_EQ(find(path("b/")), (Names{"b/deep/er/x.h", "b/y.h"}));
}

// '-' < '.' < '/' < 'B' < 'a' < 0xC3, whatever the locale.
TEST_F(FindFiles, SortsByTheBytesOfThePaths) {
  for (const char* name : {"a/1.h", "a.h", "a-.h", "B.h", "\xC3\xA9.h"}) write(name);
  EXPECT_EQ(find(path("")), (Names{"B.h", "a-.h", "a.h", "a/1.h", "\xC3\xA9.h"}));
}

TEST_F(FindFiles, PassesOverHiddenNames) {
  for (const char* name : {".git/x.h", ".hidden.h", "seen.h"}) write(name);
  EXPECT_EQ(find(path("")), (Names{"seen.h"}));
  EXPECT_EQ(find(path(".git")), (Names{".git/x.h"}));
}

TEST_F(FindFiles, AFileIsTakenWhateverItsName) {
  write("data.bin");
  EXPECT_EQ(find(path("data.bin")), (Names{"data.bin"}));
}

TEST_F(FindFiles, GlobsTakeWhateverMatches) {
  for (const char* name : {"p1.bin", "p2.bin", "q.bin", "part/x.h", "part/x.o"}) write(name);
  EXPECT_EQ(find(path("p?.bin")), (Names{"p1.bin", "p2.bin"}));
  EXPECT_EQ(find(path("[pq]*.bin")), (Names{"p1.bin", "p2.bin", "q.bin"}));
  EXPECT_EQ(find(path("*/x.*")), (Names{"part/x.h", "part/x.o"}));
}

TEST_F(FindFiles, FoldersThatAGlobMatchesAreSearched) {
  for (const char* name : {"part1/x.h", "part2/deep/y.h", "part2/z.o", "part3/z.o"}) write(name);
  EXPECT_EQ(find(path("part*")), (Names{"part1/x.h", "part2/deep/y.h"}));
  EXPECT_ERROR(find(path("part[3]")), "training.dataset_path", "matches only folders", ".h .txt");
}

TEST_F(FindFiles, ListsAreJoinedAndDoNotRepeat) {
  for (const char* name : {"b/x.h", "a.bin", "c1.txt", "c2.txt"}) write(name);
  const std::string list = path("c*.txt") + ", " + path("b") + " ," + path("a.bin");
  EXPECT_EQ(find(list), (Names{"a.bin", "b/x.h", "c1.txt", "c2.txt"}));
  EXPECT_EQ(find(path("a.bin") + "," + path("a.bin")), (Names{"a.bin"}));
}

TEST_F(FindFiles, NamesThatExistAreTakenAsTheyAreWritten) {
  for (const char* name : {"a,b.txt", "x[1].txt", "x1.txt"}) write(name);
  EXPECT_EQ(find(path("a,b.txt")), (Names{"a,b.txt"}));
  EXPECT_EQ(find(path("x[1].txt")), (Names{"x[1].txt"}));
}

TEST_F(FindFiles, FollowsSymbolicLinks) {
  write("real/x.h");
  write("elsewhere.bin");
  std::filesystem::create_directory(path("root"));
  link(path("real"), "root/folder");
  link(path("elsewhere.bin"), "root/file.txt");
  link("gone", "root/unwanted.o");  // broken, but nobody asked for it
  link(path("root"), "way_in");
  EXPECT_EQ(find(path("root")), (Names{"root/file.txt", "root/folder/x.h"}));
  EXPECT_EQ(find(path("way_in")), (Names{"way_in/file.txt", "way_in/folder/x.h"}));
}

TEST_F(FindFiles, LoopsOfLinksEnd) {
  write("a/b/x.h");
  link("..", "a/b/up");
  link(path("a"), "a/self");
  EXPECT_EQ(find(path("a")), (Names{"a/b/x.h"}));
}

TEST_F(FindFiles, BrokenLinksAreNamed) {
  write("x.h");
  link("gone", "broken.h");
  EXPECT_ERROR(find(path("broken.h")), "training.dataset_path", path("broken.h"), "symbolic link");
  EXPECT_ERROR(find(path("")), "training.dataset_path", path("broken.h"), "symbolic link");
  EXPECT_ERROR(find(path("*.h")), "training.dataset_path", path("broken.h"), "symbolic link");
  link("round.h", "round.h");
  EXPECT_ERROR(find(path("round.h")), path("round.h"), "Too many levels of symbolic links");
}

TEST_F(FindFiles, WhatDoesNotExistIsNamed) {
  const char* expected = "expected a folder, a file, a glob or a comma-separated list";
  EXPECT_ERROR(find(path("none")), "training.dataset_path", "'" + path("none") + "' does not exist",
               expected);
  write("x.h");
  EXPECT_ERROR(find(path("x.h/below")), "'" + path("x.h/below") + "' does not exist", expected);
  EXPECT_ERROR(find(path("x.h") + "," + path("none")), "'" + path("none") + "' does not exist");
  EXPECT_ERROR(find(path("*.c")), "glob '" + path("*.c") + "' matches nothing", expected);
  EXPECT_ERROR(find(path("**/x.h")), "'**'", "not supported", "searched recursively");
}

TEST_F(FindFiles, EmptyValuesAndEntriesAreRefused) {
  EXPECT_ERROR(find(""), "training.dataset_path", "got nothing");
  EXPECT_ERROR(find("  "), "training.dataset_path", "got nothing");
  write("x.h");
  EXPECT_ERROR(find(path("x.h") + ","), "training.dataset_path", "entry 2", "is empty");
}

TEST_F(FindFiles, AFolderWithoutSuchFilesIsNamed) {
  write("sub/x.o");
  EXPECT_ERROR(find(path("sub")), "training.dataset_path", "folder " + path("sub"), ".h .txt");
}

TEST_F(FindFiles, OtherKindsOfFilesAreRefused) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_ERROR(find(path("pipe")), path("pipe"), "neither a folder nor a regular file");
  EXPECT_ERROR(find(path("p*")), path("pipe"), "neither a folder nor a regular file");
  write("x.h");
  ASSERT_EQ(mkfifo(path("pipe.h").c_str(), 0600), 0);
  EXPECT_EQ(find(path("")), (Names{"x.h"}));
}

TEST_F(FindFiles, TheSystemsReasonIsTold) {
  write("closed/x.h");
  write("open/deep/x.h");
  write("file.h");
  std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
  for (const char* name : {"closed", "open/deep", "file.h"}) {
    std::filesystem::permissions(path(name), std::filesystem::perms::none);
  }
  {
    const Unprivileged user;
    const char* reason = "Permission denied";
    EXPECT_ERROR(find(path("closed")), "training.dataset_path", path("closed"), reason);
    EXPECT_ERROR(find(path("closed/x.h")), "training.dataset_path", path("closed/x.h"), reason);
    EXPECT_ERROR(find(path("open")), "training.dataset_path", path("open/deep"), reason);
    EXPECT_ERROR(find(path("closed/*")), "training.dataset_path", path("closed/*"), reason);
    EXPECT_ERROR(find(path("file.h")), path("file.h"), reason);
  }
  for (const char* name : {"closed", "open/deep"}) {
    std::filesystem::permissions(path(name), std::filesystem::perms(0700));
  }
}

}  // namespace
}  // namespace tessera
