#include "trainer/support/text_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/numbers.h"

namespace tessera {
namespace {

using testing::kInfinity;

TEST(TextFormat, CommasSplitThousands) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(6163712), "6,163,712");
  EXPECT_EQ(with_commas(-999), "-999");
  EXPECT_EQ(with_commas(-1000), "-1,000");
  EXPECT_EQ(with_commas(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(TextFormat, ShortCountsTakeTheNearestUnit) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(999), "999");
  EXPECT_EQ(short_count(1000), "1.0 K");
  EXPECT_EQ(short_count(6163712), "6.2 M");
  EXPECT_EQ(short_count(8030261248), "8.0 B");
  EXPECT_EQ(short_count(405'853'388'800), "405.9 B");
  EXPECT_EQ(short_count(999'960), "1.0 M");  // not "1000.0 K"
  EXPECT_EQ(short_count(5'000'000'000'000'000), "5000.0 T");
  EXPECT_EQ(short_count(-2500), "-2.5 K");
}

TEST(TextFormat, FixedRoundsPadsAndNamesWhatHasNoDigits) {
  EXPECT_EQ(fixed(3.14159, 2), "3.14");
  EXPECT_EQ(fixed(2.0, 0), "2");
  EXPECT_EQ(fixed(3.14159, 2, 7), "   3.14");
  EXPECT_EQ(fixed(-1.5, 1, 2), "-1.5");
  EXPECT_EQ(fixed(std::nan(""), 4), "nan");
  EXPECT_EQ(fixed(kInfinity, 4, 5), "  inf");
  EXPECT_EQ(fixed(-kInfinity, 4), "-inf");
  EXPECT_EQ(fixed(std::numeric_limits<double>::max(), 4).size(), 309u + 5u);
}

TEST(TextFormat, DurationsGrowWithTheirUnits) {
  EXPECT_EQ(duration(0), "0:00");
  EXPECT_EQ(duration(59.99), "0:59");
  EXPECT_EQ(duration(61), "1:01");
  EXPECT_EQ(duration(3599), "59:59");
  EXPECT_EQ(duration(3725), "1:02:05");
  EXPECT_EQ(duration(86399), "23:59:59");
  EXPECT_EQ(duration(86400 * 2 + 3 * 3600 + 4 * 60 + 5), "2d 03:04:05");
  EXPECT_EQ(duration(-1), "-:--");
  EXPECT_EQ(duration(kInfinity), "-:--");
  EXPECT_EQ(duration(std::nan("")), "-:--");
}

TEST(TextFormat, PaddingNeverCuts) {
  EXPECT_EQ(pad_left("ab", 4), "  ab");
  EXPECT_EQ(pad_right("ab", 4), "ab  ");
  EXPECT_EQ(pad_left("abcde", 4), "abcde");
  EXPECT_EQ(pad_right("abcde", 4), "abcde");
}

}  // namespace
}  // namespace tessera
