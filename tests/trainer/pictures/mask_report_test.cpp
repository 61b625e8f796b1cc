#include "trainer/pictures/mask_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tessera {
namespace {

using nlohmann::json;

// Documents of three and two tokens and one token of padding.
//
//   1 . | . . | . .     causal & document, tiles of 2 x 2: five of nine are present, all of them
//   1 1 | . . | . .     partial, and two of them are equal
//   ----+-----+----
//   1 1 | 1 . | . .
//   . . | . 1 | . .
//   ----+-----+----
//   . . | . 1 | 1 .
//   . . | . . | . 1
MaskView small_view() {
  return make_mask_view("causal & document", {.num_tokens = 6, .rows = {{.documents = {3, 2}}}},
                        {.block = {2, 2}});
}

json report(const MaskView& view, const ReportOptions& options = {}) {
  return json::parse(mask_json(view, options));
}

TEST(MaskJson, HandComputedValues) {
  const json all = report(small_view());
  EXPECT_EQ(all["rule"], "causal & document");
  EXPECT_EQ(all["batch"], 1);
  EXPECT_EQ(all["tokens"], 6);
  EXPECT_EQ(all["queries"], json({0, 6}));
  EXPECT_EQ(all["keys"], json({0, 6}));
  EXPECT_EQ(all["block"], json({2, 2}));
  EXPECT_DOUBLE_EQ(all["sparsity"].get<double>(), 100.0 * 4 / 9);
  EXPECT_EQ(all["num_pairs"], 10);
  EXPECT_EQ(all["num_runs"], 5);
  EXPECT_EQ(all["num_tiles"], 4);
  EXPECT_EQ(all["rows"], json::parse("[[[0,1]], [[0,2]], [[0,3]], [[3,4]], [[3,5]], [[5,6]]]"));
  EXPECT_EQ(all["dense"], json({"100000", "110000", "111000", "000100", "000110", "000001"}));
  EXPECT_EQ(all.size(), 12u);
}

TEST(MaskJson, IsOneLine) {
  const std::string text = mask_json(small_view(), {});
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(text.substr(0, 9), "{\"rule\":\"");
}

TEST(MaskJson, SeveralRowsAreAListForEach) {
  const MaskView view =
      make_mask_view("causal & document",
                     {.num_tokens = 3, .rows = {{.documents = {3}}, {.documents = {1, 2}}}}, {});
  const json all = report(view);
  EXPECT_EQ(all["batch"], 2);
  EXPECT_EQ(all["rows"], json::parse("[[[[0,1]], [[0,2]], [[0,3]]], [[[0,1]], [[1,2]], [[1,3]]]]"));
  EXPECT_EQ(all["dense"], json::parse(R"([["100","110","111"], ["100","010","011"]])"));
  EXPECT_EQ(all["num_pairs"], 6 + 4);
}

TEST(MaskJson, RowsUpTo4096TokensAndDenseUpTo64) {
  const auto with_tokens = [](int64_t num_tokens) {
    return report(make_mask_view(
        "causal", {.num_tokens = num_tokens, .rows = {{.documents = {num_tokens}}}}, {}));
  };
  EXPECT_EQ(with_tokens(64)["dense"].size(), 64u);
  EXPECT_FALSE(with_tokens(65).contains("dense"));
  EXPECT_EQ(with_tokens(4096)["rows"].size(), 4096u);
  EXPECT_EQ(with_tokens(4096)["rows"][4095], json::parse("[[0,4096]]"));
  EXPECT_FALSE(with_tokens(4097).contains("rows"));
}

TEST(MaskJson, RowsThatSeeNothingAndRowsWithHoles) {
  const MaskView view =
      make_mask_view("~causal & ~window(left=0, right=2) | first_tokens(1) & window(right=0)",
                     {.num_tokens = 4, .rows = {{.documents = {4}}}}, {});
  // Keys from q + 3 on, and token 0.
  EXPECT_EQ(report(view)["rows"], json::parse("[[[0,1],[3,4]], [[0,1]], [[0,1]], [[0,1]]]"));
  const MaskView nothing =
      make_mask_view("none", {.num_tokens = 2, .rows = {{.documents = {2}}}}, {});
  EXPECT_EQ(report(nothing)["rows"], json::parse("[[], []]"));
  EXPECT_EQ(report(nothing)["sparsity"], 100.0);
}

TEST(MaskJson, APartOfTheRowCountsTokensOfTheRow) {
  const MaskView view = make_mask_view("causal", {.num_tokens = 8, .rows = {{.documents = {8}}}},
                                       {.q_offset = 5, .kv_offset = 2, .num_queries = 2});
  const json all = report(view);
  EXPECT_EQ(all["queries"], json({5, 7}));
  EXPECT_EQ(all["keys"], json({2, 8}));
  EXPECT_EQ(all["rows"], json::parse("[[[2,6]], [[2,7]]]"));
  EXPECT_EQ(all["dense"], json({"111100", "111110"}));
}

TEST(MaskMemory, BytesOfEachForm) {
  const MaskMemory memory = mask_memory(small_view().mask);
  EXPECT_EQ(memory.dense_bool, 36);
  EXPECT_EQ(memory.bias_bfloat16, 72);
  EXPECT_EQ(memory.bias_float32, 144);
  // 4 offsets of 4 bytes, 5 runs of 12, 4 tiles of 2 words.
  EXPECT_EQ(memory.block_mask, 16 + 60 + 64);
  const json estimate = report(small_view(), {.estimate = true})["estimate"];
  EXPECT_EQ(estimate, json::parse(R"({"dense_bool": 36, "bias_bfloat16": 72, "bias_float32": 144,
                                      "block_mask": 140})"));
}

TEST(MaskMemory, SquareFormsOfAMillionTokensAreOnlyCounted) {
  const int64_t num_tokens = int64_t{1} << 20;
  const MaskView view = make_mask_view(
      "causal & document", {.num_tokens = num_tokens, .rows = {{.documents = {400'000}}}}, {});
  const MaskMemory memory = mask_memory(view.mask);
  EXPECT_EQ(memory.bias_float32, int64_t{1} << 42);
  EXPECT_LT(memory.block_mask, 1 << 20);
  EXPECT_NE(memory_text(view).find("dense bool        1.0 TiB"), std::string::npos)
      << memory_text(view);
  EXPECT_NE(memory_text(view).find("KiB\n"), std::string::npos);
}

TEST(MaskMemory, TextForPeople) {
  EXPECT_EQ(memory_text(small_view()),
            "memory, one head for all:\n"
            "  dense bool           36 B\n"
            "  bias bfloat16        72 B\n"
            "  bias float32        144 B\n"
            "  block mask          140 B\n");
}

TEST(MaskSummary, RuleAndFigures) {
  EXPECT_EQ(mask_summary(small_view()),
            "causal & document\n"
            "6 x 6 tokens, block 2 x 2: sparsity 44.44%, 10 pairs, 5 runs, 4 bit tiles\n");
  const MaskView batch = make_mask_view(
      "causal", {.num_tokens = 2000, .rows = {{.documents = {2000}}, {.documents = {2000}}}}, {});
  EXPECT_EQ(mask_summary(batch),
            "causal\n2 rows of 2,000 x 2,000 tokens, block 128 x 128: sparsity 46.85%, 4,002,000 "
            "pairs, 62 runs, 2 bit tiles\n");
}

}  // namespace
}  // namespace tessera
