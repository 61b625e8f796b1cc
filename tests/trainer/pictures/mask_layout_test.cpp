#include "trainer/pictures/mask_layout.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/temp_dir.h"

namespace tessera {
namespace {

MaskLayout from_json(const std::string& json, LayoutFlags flags = {}) {
  const testing::TempDir folder;
  flags.layout = folder.write("batch.json", json);
  return read_layout(flags);
}

TEST(MaskLayout, TokensAloneAreOneDocument) {
  const MaskLayout layout = read_layout({.tokens = "4096"});
  EXPECT_EQ(layout, (MaskLayout{.num_tokens = 4096, .rows = {{.documents = {4096}}}}));
  EXPECT_FALSE(layout.has_images());
  EXPECT_FALSE(layout.has_prefix());
  EXPECT_EQ(document_spans(layout.rows[0], 4096),
            (std::vector<DocumentSpan>{{.tokens = {0, 4096}}}));
}

TEST(MaskLayout, WhatDocumentsLeaveIsPadding) {
  const MaskLayout layout = read_layout({.tokens = "10", .documents = "3, 4"});
  EXPECT_EQ(layout.rows[0].documents, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(document_spans(layout.rows[0], 10),
            (std::vector<DocumentSpan>{
                {.tokens = {0, 3}}, {.tokens = {3, 7}}, {.tokens = {7, 10}, .padding = true}}));
  EXPECT_EQ(read_layout({.documents = "3,4"}).num_tokens, 7) << "no --tokens: no padding";
}

TEST(MaskLayout, PositionsThatDoNotFollowStartADocument) {
  const auto documents = [](const char* positions) {
    return read_layout({.positions = positions}).rows[0].documents;
  };
  EXPECT_EQ(documents("0,1,2,0,1"), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(documents("5,6,0,1,0,0"), (std::vector<int64_t>{2, 2, 1, 1}))
      << "a row may begin inside";
  EXPECT_EQ(documents("3,4,6,7"), (std::vector<int64_t>{2, 2})) << "a jump ahead";
  EXPECT_EQ(documents("2,1,0"), (std::vector<int64_t>{1, 1, 1}));
  EXPECT_EQ(read_layout({.tokens = "8", .positions = "0,1,0"}).num_tokens, 8);
}

TEST(MaskLayout, AdditionsAreRead) {
  const MaskLayout layout = read_layout({.tokens = "20",
                                         .documents = "8,12",
                                         .images = "10:4,2:3",
                                         .prefix = "2",
                                         .window = "5,1",
                                         .chunk = "4"});
  EXPECT_EQ(layout.rows[0].images, (std::vector<TokenRange>{{2, 5}, {10, 14}})) << "ascending";
  EXPECT_EQ(layout.rows[0].prefix, 2);
  EXPECT_EQ(layout.window, (Window{.left = 5, .right = 1}));
  EXPECT_EQ(layout.chunk, 4);
  EXPECT_TRUE(layout.has_images());
  EXPECT_TRUE(layout.has_prefix());
  EXPECT_EQ(read_layout({.tokens = "9", .window = "0"}).window, (Window{.left = 0}));
}

TEST(MaskLayout, JsonSaysTheSameAsFlags) {
  EXPECT_EQ(from_json(R"({"tokens": 20, "documents": [8, 12], "images": [[10, 4], [2, 3]],
                          "prefix": 2, "window": [5, 1], "chunk": 4})"),
            read_layout({.tokens = "20",
                         .documents = "8,12",
                         .images = "10:4,2:3",
                         .prefix = "2",
                         .window = "5,1",
                         .chunk = "4"}));
  EXPECT_EQ(from_json(R"({"positions": [0, 1, 0], "window": 3})"),
            read_layout({.positions = "0,1,0", .window = "3"}));
}

TEST(MaskLayout, JsonRowsArePaddedToTheLongest) {
  const MaskLayout layout = from_json(
      R"({"rows": [{"documents": [3, 2]}, {"positions": [0, 1, 2, 0, 1, 2, 3], "prefix": 2},
                   {}, {"documents": [4], "images": [[1, 2]]}]})");
  EXPECT_EQ(layout.num_tokens, 7);
  ASSERT_EQ(layout.rows.size(), 4u);
  EXPECT_EQ(layout.rows[0].documents, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(layout.rows[1].documents, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(layout.rows[1].prefix, 2);
  EXPECT_EQ(layout.rows[2].documents, (std::vector<int64_t>{7})) << "no documents: one";
  EXPECT_EQ(layout.rows[3].images, (std::vector<TokenRange>{{1, 3}}));
  EXPECT_EQ(document_spans(layout.rows[3], 7).back(),
            (DocumentSpan{.tokens = {4, 7}, .padding = true}));
}

TEST(MaskLayout, FlagsAddToAFile) {
  const MaskLayout layout = from_json(R"({"rows": [{"documents": [3, 5]}, {"documents": [4]}]})",
                                      {.prefix = "1", .window = "2"});
  EXPECT_EQ(layout.window, (Window{.left = 2}));
  EXPECT_EQ(layout.rows[0].prefix, 1);
  EXPECT_EQ(layout.rows[1].prefix, 1);
}

TEST(MaskLayout, NoLayoutIsRefused) {
  EXPECT_ERROR(read_layout({}), "--tokens, --documents, --positions or --layout");
  EXPECT_ERROR(read_layout({.window = "3"}), "no layout");
  EXPECT_ERROR(from_json("{}"), "batch.json", "expected tokens, documents or positions");
  EXPECT_ERROR(from_json(R"({"rows": [{}, {"prefix": 2}]})"), "expected tokens, documents");
}

TEST(MaskLayout, FlagsThatAreNoIntegersAreNamed) {
  EXPECT_ERROR(read_layout({.tokens = "4k"}), "--tokens: got \"4k\", expected an integer");
  EXPECT_ERROR(read_layout({.tokens = ""}), "--tokens: got \"\"");
  EXPECT_ERROR(read_layout({.tokens = " "}), "--tokens: got \" \"");
  EXPECT_ERROR(read_layout({.tokens = "1 2"}), "--tokens: got \"1 2\"");
  EXPECT_ERROR(read_layout({.tokens = "99999999999999999999"}), "--tokens", "an integer");
  EXPECT_ERROR(read_layout({.documents = "3,,4"}), "--documents: item 2: got \"\"");
  EXPECT_ERROR(read_layout({.documents = "3,4.5"}), "--documents: item 2: got \"4.5\"");
  EXPECT_ERROR(read_layout({.positions = "0,x"}), "--positions: item 2: got \"x\"");
  EXPECT_ERROR(read_layout({.tokens = "9", .window = "a"}), "--window: item 1: got \"a\"");
  EXPECT_ERROR(read_layout({.tokens = "9", .chunk = "a"}), "--chunk: got \"a\"");
  EXPECT_ERROR(read_layout({.tokens = "9", .prefix = "a"}), "--prefix: got \"a\"");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "3"}), "--images: got \"3\"", "start:length");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "3:b"}), "--images: length: got \"b\"");
}

TEST(MaskLayout, ValuesOutOfRangeAreNamed) {
  EXPECT_ERROR(read_layout({.tokens = "0"}), "--tokens: got 0, expected 1 to 134217728");
  EXPECT_ERROR(read_layout({.tokens = "134217729"}), "--tokens: got 134217729");
  EXPECT_ERROR(read_layout({.tokens = "9", .documents = "3,0"}), "--documents: item 2: got 0",
               "expected 1 to");
  EXPECT_ERROR(read_layout({.tokens = "9", .documents = "-3"}), "--documents: item 1: got -3");
  EXPECT_ERROR(read_layout({.documents = "134217728,1"}), "tokens of a row: got 134217729");
  EXPECT_ERROR(read_layout({.positions = "0,-1"}), "--positions: item 2: got -1",
               "expected 0 or more");
  EXPECT_ERROR(read_layout({.tokens = "9", .window = "-1"}), "--window: got -1, expected 0 to");
  EXPECT_ERROR(read_layout({.tokens = "9", .window = "1,2,3"}), "--window: got 3 integers",
               "left, or left and right");
  EXPECT_ERROR(read_layout({.tokens = "9", .chunk = "0"}), "--chunk: got 0, expected 1 to");
  EXPECT_ERROR(read_layout({.tokens = "9", .prefix = "10"}), "--prefix: got 10, expected 0 to 9");
}

TEST(MaskLayout, WhatDoesNotFitTheRowIsRefused) {
  EXPECT_ERROR(read_layout({.tokens = "6", .documents = "3,4"}), "--documents: got 7 tokens",
               "at most the 6");
  EXPECT_ERROR(read_layout({.tokens = "2", .positions = "0,1,2"}), "--positions: got 3 tokens");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "9:1"}), "--images: start: got 9", "0 to 8");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "0:0"}), "--images: length: got 0");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "0:9223372036854775807"}), "--images: length",
               "1 to 9");
}

TEST(MaskLayout, ImagesNeverLeaveADocument) {
  EXPECT_ERROR(read_layout({.tokens = "9", .documents = "4,5", .images = "3:2"}),
               "--images: got tokens 3 to 5", "one document");
  EXPECT_ERROR(read_layout({.tokens = "9", .documents = "4", .images = "5:2"}),
               "--images: got tokens 5 to 7", "one document");
  EXPECT_ERROR(read_layout({.tokens = "9", .images = "3:4,1:3"}), "--images: got tokens 3 to 7",
               "after 1 to 4", "do not overlap");
}

TEST(MaskLayout, SourcesThatClashAreRefused) {
  EXPECT_ERROR(read_layout({.documents = "3", .positions = "0,1"}), "--positions",
               "\"--documents\"", "one of the two");
  EXPECT_ERROR(from_json("{}", {.tokens = "3"}), "--tokens", "--layout");
  EXPECT_ERROR(from_json("{}", {.documents = "3"}), "--documents", "--layout");
  EXPECT_ERROR(from_json("{}", {.positions = "0"}), "--positions", "--layout");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "window": 3})", {.window = "3"}), "--window",
               "batch.json: window", "one of the two");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "chunk": 3})", {.chunk = "3"}), "--chunk");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "prefix": 3})", {.prefix = "3"}), "--prefix");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "images": []})", {.images = "3:1"}), "--images");
}

TEST(MaskLayout, JsonErrorsNameFileAndKey) {
  EXPECT_ERROR(read_layout({.layout = "/no/such.json"}), "--layout", "/no/such.json");
  EXPECT_ERROR(read_layout({.layout = "/"}), "--layout: got \"/\"");
  EXPECT_ERROR(from_json("{\"tokens\": 3,\n \"documents\" 4}"), "batch.json", "line 2");
  EXPECT_ERROR(from_json("[1]"), "batch.json", "got a list, expected an object");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "document": [3]})"), "batch.json: document",
               "unknown key", "documents, positions");
  EXPECT_ERROR(from_json(R"({"tokens": "9"})"), "batch.json: tokens: got \"9\"", "an integer");
  EXPECT_ERROR(from_json(R"({"tokens": 9.5})"), "tokens: got 9.5");
  EXPECT_ERROR(from_json(R"({"tokens": 18446744073709551615})"), "got 18446744073709551615");
  EXPECT_ERROR(from_json(R"({"documents": 3})"), "documents: got 3", "a list of integers");
  EXPECT_ERROR(from_json(R"({"documents": []})"), "documents: got none", "at least one");
  EXPECT_ERROR(from_json(R"({"positions": []})"), "positions: got none");
  EXPECT_ERROR(from_json(R"({"documents": [3, true]})"), "documents: item 2: got true");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "images": 3})"), "images: got 3", "[start, length]");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "images": [[3]]})"), "images: item 1: got 1 integers",
               "[start, length]");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "window": {"left": 3}})"), "window: got an object");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "chunk": null})"), "chunk: got null");
}

TEST(MaskLayout, JsonRowErrorsNameTheRow) {
  EXPECT_ERROR(from_json(R"({"rows": []})"), "batch.json: rows: got a list", "one or more");
  EXPECT_ERROR(from_json(R"({"rows": 3})"), "rows: got 3");
  EXPECT_ERROR(from_json(R"({"rows": [{}, 3]})"), "rows[1]: got 3, expected an object");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "rows": [{}, {"tokens": 3}]})"), "rows[1]: tokens",
               "unknown key");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "rows": [{}, {"documents": [10]}]})"),
               "rows[1]: documents: got 10 tokens");
  EXPECT_ERROR(from_json(R"({"documents": [3], "rows": [{}]})"), "rows", "inside the rows");
  EXPECT_ERROR(from_json(R"({"tokens": 9, "prefix": 3, "rows": [{}]})"), "inside the rows");
}

// The nesting is deeper than the stack, if anything recursed.
TEST(MaskLayout, DeeplyNestedJsonIsRefused) {
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  EXPECT_ERROR(from_json("{\"tokens\": " + deep + "}"), "tokens: got a list");
}

}  // namespace
}  // namespace tessera
