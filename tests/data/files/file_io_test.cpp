#include "data/files/file_io.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::TempDir;

TEST(FileIo, ReadsWholeFiles) {
  const TempDir dir;
  for (size_t size :
       {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{70000}}) {
    std::string content(size, 'x');
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31);
    EXPECT_EQ(read_file(dir.write("file", content)), content);
  }
}

// Pseudo files state a size of 0.
TEST(FileIo, DoesNotRelyOnTheStatedSize) {
  EXPECT_EQ(InputFile("/proc/self/mountinfo").stated_size(), 0);
  EXPECT_GT(read_file("/proc/self/mountinfo").size(), 0u);
  EXPECT_GT(read_file("/proc/self/smaps").size(), 4096u);
}

TEST(FileIo, ErrorsNameTheFile) {
  const TempDir dir;
  const std::string folder = dir.path().string();
  EXPECT_ERROR(read_file(folder + "/none"), "cannot open " + folder + "/none",
               "No such file or directory");
  EXPECT_ERROR(read_file(folder), "cannot read " + folder, "Is a directory");
  const std::string file = dir.write("file", "content");
  EXPECT_ERROR(read_file(file + "/below"), file + "/below", "Not a directory");
}

TEST(FileIo, ReadsAtAnOffset) {
  const TempDir dir;
  const InputFile file(dir.write("file", "0123456789"));
  std::string bytes(4, '\0');
  file.read_at(3, bytes.data(), 4);
  EXPECT_EQ(bytes, "3456");
  EXPECT_ERROR(file.read_at(8, bytes.data(), 4), "it ends at byte 10", "at least 12 bytes");
}

}  // namespace
}  // namespace tessera
