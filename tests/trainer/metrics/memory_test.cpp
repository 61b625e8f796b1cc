#include "trainer/metrics/memory.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

using testing::TempDir;

TEST(Memory, CpuPeakGrowsWithWhatIsTouchedAndFitsTheMachine) {
  const MemoryUse before = memory_use(c10::Device(c10::kCPU));
  ASSERT_TRUE(before.peak_gib.has_value());
  ASSERT_TRUE(before.total_gib.has_value());
  EXPECT_GT(*before.peak_gib, 0);
  EXPECT_LT(*before.peak_gib, *before.total_gib);

  // Larger than the peak so far: the peak must rise above what this block alone takes.
  const double block_gib = *before.peak_gib + 1.0 / 16;
  std::vector<char> block(static_cast<size_t>(block_gib * (1 << 30)), 1);
  const MemoryUse after = memory_use(c10::Device(c10::kCPU));
  EXPECT_GE(*after.peak_gib, block_gib);
  EXPECT_EQ(after.total_gib, before.total_gib);
  EXPECT_EQ(block.back(), 1);
}

TEST(Memory, ADeviceWithoutACachingAllocatorHasNoFigures) {
  const MemoryUse use = memory_use(c10::Device(c10::kMeta));
  EXPECT_EQ(use.peak_gib, std::nullopt);
  EXPECT_EQ(use.total_gib, std::nullopt);
}

TEST(Memory, StatusFilesAreReadByKey) {
  const TempDir folder;
  const std::string file =
      folder.write("status", "Name:\ttrain\nVmPeak:\t 4194304 kB\nVmHWM:\t 2097152 kB\nBad:\tx\n");
  EXPECT_EQ(gib_from_status_file(file, "VmHWM"), 2.0);
  EXPECT_EQ(gib_from_status_file(file, "VmPeak"), 4.0);
  EXPECT_EQ(gib_from_status_file(file, "VmRSS"), std::nullopt);
  EXPECT_EQ(gib_from_status_file(file, "Bad"), std::nullopt);
  EXPECT_EQ(gib_from_status_file(file + ".missing", "VmHWM"), std::nullopt);
}

TEST(Memory, LimitFilesHoldBytesOrNothing) {
  const TempDir folder;
  EXPECT_EQ(gib_from_limit_file(folder.write("limit", "3221225472\n")), 3.0);
  EXPECT_EQ(gib_from_limit_file(folder.write("none", "max\n")), std::nullopt);
  EXPECT_EQ(gib_from_limit_file((folder.path() / "missing").string()), std::nullopt);
}

}  // namespace
}  // namespace tessera
