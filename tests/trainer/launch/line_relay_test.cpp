#include "trainer/launch/line_relay.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(LineRelay, LinesComeWholeAndWithTheirPrefix) {
  LineRelay relay("[rank 2] ");
  EXPECT_EQ(relay.add("step 1\nst"), "[rank 2] step 1\n");
  EXPECT_EQ(relay.add(""), "");
  EXPECT_EQ(relay.add("ep 2"), "");
  EXPECT_EQ(relay.add("\n\nstep 3\n"), "[rank 2] step 2\n[rank 2] \n[rank 2] step 3\n");
  EXPECT_EQ(relay.finish(), "");
}

TEST(LineRelay, AnUnfinishedLastLineComesAtTheEnd) {
  LineRelay relay("> ");
  EXPECT_EQ(relay.add("no newline"), "");
  EXPECT_EQ(relay.finish(), "> no newline\n");
  EXPECT_EQ(relay.finish(), "");
}

TEST(LineRelay, CutsLinesThatAreTooLong) {
  LineRelay relay("");
  const std::string piece(LineRelay::kLongestLine - 1, 'a');
  EXPECT_EQ(relay.add(piece), "");
  EXPECT_EQ(relay.add("bc"), piece + "b\n");
  EXPECT_EQ(relay.finish(), "c\n");
  const std::string exact(LineRelay::kLongestLine, 'a');
  EXPECT_EQ(relay.add(exact + "\n"), exact + "\n") << "no empty line after it";
  EXPECT_EQ(relay.add(exact + exact), exact + "\n" + exact + "\n");
  EXPECT_EQ(relay.finish(), "");
}

TEST(LineRelay, RemembersTheLineToShowAfterAFailure) {
  LineRelay relay("[rank 0] ");
  EXPECT_EQ(relay.last_error(), "");
  relay.add("step 1\n \n\n");
  EXPECT_EQ(relay.last_error(), "step 1") << "blank lines say nothing";
  relay.add("ValueError: bad\nbye\n");
  EXPECT_EQ(relay.last_error(), "ValueError: bad");
  relay.add("tessera: ERROR: worse");
  EXPECT_EQ(relay.last_error(), "ValueError: bad");
  relay.finish();
  EXPECT_EQ(relay.last_error(), "tessera: ERROR: worse");
}

}  // namespace
}  // namespace tessera
