#include "parallel/comm/together.h"

#include <mutex>

#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using testing::message_of;
using testing::run_ranks;

// The text of rank r: r * 1000 letters, so rank 0's text is empty.
std::string text_of_rank(int64_t rank) {
  return std::string(static_cast<size_t>(rank) * 1000, static_cast<char>('a' + rank));
}

TEST(Together, TextsOfEveryRankReachAll) {
  run_ranks(3, [](const World& world) {
    const std::vector<std::string> texts = gather_texts(text_of_rank(world.rank()), world.all());
    EXPECT_EQ(texts, (std::vector<std::string>{text_of_rank(0), text_of_rank(1), text_of_rank(2)}));
    EXPECT_EQ(broadcast_text(world.rank() == 0 ? "from 0" : "not this", world.all()), "from 0");
    EXPECT_EQ(broadcast_text("", world.all()), "");
  });
  EXPECT_EQ(gather_texts("alone", {}), std::vector<std::string>{"alone"});
  EXPECT_EQ(broadcast_text("alone", {}), "alone");
}

TEST(Together, ConcludesOnceAllAreDone) {
  run_ranks(3, [](const World& world) {
    const std::string result = run_together(
        world.all(), [&] { return std::to_string(world.rank()); },
        [&](const std::vector<std::string>& results) {
          EXPECT_EQ(world.rank(), 0);
          return c10::Join("+", results);
        });
    EXPECT_EQ(result, "0+1+2");
    EXPECT_EQ(run_together(world.all(), [] { return "unused"; }), "");
  });
}

TEST(Together, AllThrowTheFirstReason) {
  run_ranks(3, [](const World& world) {
    bool has_concluded = false;
    const auto fail_on_1_and_2 = [&] {
      TORCH_CHECK(world.rank() == 0, "disk ", world.rank(), " is full");
      return "";
    };
    const std::string message = message_of([&] {
      run_together(world.all(), fail_on_1_and_2, [&](const std::vector<std::string>&) {
        has_concluded = true;
        return "";
      });
    });
    EXPECT_EQ(message, "rank 1: disk 1 is full");
    EXPECT_FALSE(has_concluded);
    const auto fail = [](const std::vector<std::string>&) -> std::string {
      throw std::runtime_error("parts overlap");
    };
    EXPECT_EQ(message_of([&] {
                run_together(
                    world.all(), [] { return ""; }, fail);
              }),
              "parts overlap");
    EXPECT_EQ(run_together(world.all(), [] { return ""; }), "");  // goes on in step
  });
  EXPECT_EQ(message_of([] {
              run_together({}, []() -> std::string { throw std::runtime_error("alone"); });
            }),
            "alone");
}

}  // namespace
}  // namespace tessera
