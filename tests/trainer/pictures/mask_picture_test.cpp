#include "trainer/pictures/mask_picture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "tests/trainer/cli/pseudo_terminal.h"

namespace tessera {
namespace {

MaskView packed(int64_t num_tokens, std::vector<int64_t> documents,
                const MaskViewOptions& geometry) {
  return make_mask_view("causal & document",
                        {.num_tokens = num_tokens, .rows = {{.documents = std::move(documents)}}},
                        geometry);
}

std::string without_color(const std::string& text) {
  std::string plain;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\x1b') {
      at = text.find('m', at);
    } else {
      plain += text[at];
    }
  }
  return plain;
}

int64_t width(const std::string& line) {
  return std::count_if(line.begin(), line.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

TEST(MaskPicture, ASmallMaskExactly) {
  // Queries 2 and 3 are of two documents, and so are 4 and 5 (the second and the padding).
  EXPECT_EQ(mask_picture(packed(6, {3, 2}, {.block = {2, 2}}), 0, {}),
            "   0 2 4\n"
            "   ┬─┬─┬─\n"
            "0 ├▒▒ · ·\n"
            "2 ├▒▒▒▒ ·\n"
            "4 ├ ·▒▒▒▒\n"
            "██ full  ▒▒ partial   · empty\n");
}

TEST(MaskPicture, FullTilesAndDocumentsThatStartAtTiles) {
  EXPECT_EQ(mask_picture(packed(16, {12, 4}, {.block = {4, 4}}), 0, {}),
            "    0   8\n"
            "    ┬─────┬─\n"
            " 0 ├▒▒ · · ·\n"
            " 4 │██▒▒ · ·\n"
            " 8 │████▒▒ ·\n"
            "12 ├ · · ·▒▒\n"
            "██ full  ▒▒ partial   · empty\n");
}

TEST(MaskPicture, ManyTilesShareCells) {
  EXPECT_EQ(mask_picture(packed(32, {24, 8}, {.block = {2, 2}}), 0, {.columns = 12}),
            "    0   16\n"
            "    ┬─────┬─\n"
            " 0 ├▒▒ · · ·\n"
            " 8 │██▒▒ · ·\n"
            "16 │████▒▒ ·\n"
            "24 ├ · · ·▒▒\n"
            "██ full  ▓▓ mostly full  ▒▒ partial  ░░ mostly empty   · empty\n"
            "a cell is 4 x 4 tiles and shows their mean\n");
}

TEST(MaskPicture, APartOfTheRowIsLabelledByItsTokens) {
  const MaskViewOptions geometry{.block = {2, 4}, .q_offset = 9, .kv_offset = 4, .num_queries = 3};
  EXPECT_EQ(mask_picture(packed(16, {10, 6}, geometry), 0, {}),
            "    4   12\n"
            "    ──┬───\n"
            " 9 ├▒▒▒▒ ·\n"
            "11 │ ·▒▒ ·\n"
            "██ full  ▒▒ partial   · empty\n");
}

TEST(MaskPicture, EachRowOfABatchHasItsOwn) {
  const MaskView view = make_mask_view(
      "causal & document", {.num_tokens = 4, .rows = {{.documents = {4}}, {.documents = {2, 2}}}},
      {.block = {2, 2}});
  EXPECT_NE(mask_picture(view, 0, {}).find("2 │██▒▒\n"), std::string::npos);
  EXPECT_NE(mask_picture(view, 1, {}).find("2 ├ ·▒▒\n"), std::string::npos);
}

TEST(MaskPicture, FitsAnyWidth) {
  for (const int64_t num_tokens : {1, 100, 5000, 131072}) {
    const MaskView view = packed(num_tokens, {num_tokens}, {});
    for (const int64_t columns : {14, 20, 40, 79, 80, 81, 200, 1000}) {
      std::istringstream lines(mask_picture(view, 0, {.columns = columns}));
      int64_t num_lines = 0;
      for (std::string line; std::getline(lines, line); ++num_lines) {
        const bool is_grid = line.find("full") == std::string::npos && line[0] != 'a';
        if (!is_grid) continue;
        EXPECT_LE(width(line), columns) << num_tokens << ": " << line;
      }
      EXPECT_LE(num_lines, 64 + 4);
    }
  }
}

TEST(MaskPicture, ColorsAreAllThatDiffers) {
  const MaskView view = packed(500, {200, 300}, {.block = {16, 16}});
  const std::string colored = mask_picture(view, 0, {.color = true});
  EXPECT_EQ(without_color(colored), mask_picture(view, 0, {}));
  EXPECT_NE(colored.find("\x1b[36m██"), std::string::npos);
  EXPECT_NE(colored.find("\x1b[33m▒▒"), std::string::npos);
  EXPECT_NE(colored.find("\x1b[2m ·"), std::string::npos);
  std::istringstream lines(colored);
  for (std::string line; std::getline(lines, line);) {
    const size_t last = line.rfind("\x1b[");
    EXPECT_TRUE(last == std::string::npos || line.compare(last, 4, "\x1b[0m") == 0)
        << "colours end with the line";
  }
}

TEST(ConsoleOf, TerminalsHaveTheirWidthAndOthers80) {
  const testing::PseudoTerminal terminal(123);
  EXPECT_TRUE(console_of(terminal.fd()).is_terminal);
  EXPECT_EQ(console_of(terminal.fd()).columns, 123);
  const testing::PseudoTerminal unknown(0);
  EXPECT_EQ(console_of(unknown.fd()).columns, 80);
  int pipe_fds[2] = {};
  ASSERT_EQ(pipe(pipe_fds), 0);
  EXPECT_FALSE(console_of(pipe_fds[1]).is_terminal);
  EXPECT_EQ(console_of(pipe_fds[1]).columns, 80);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace tessera
