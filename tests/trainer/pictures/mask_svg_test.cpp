#include "trainer/pictures/mask_svg.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <regex>

#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

using testing::expect_well_formed_svg;
using testing::svg_group;
using testing::svg_texts;

struct Rect {
  double x, y, width, height;
};

std::vector<Rect> rects(const std::string& svg) {
  std::vector<Rect> found;
  const std::regex pattern(
      R"RE(<rect x="([0-9.]+)" y="([0-9.]+)" width="([0-9.]+)" height="([0-9.]+)")RE");
  for (std::sregex_iterator it(svg.begin(), svg.end(), pattern), end; it != end; ++it) {
    found.push_back(
        {std::stod((*it)[1]), std::stod((*it)[2]), std::stod((*it)[3]), std::stod((*it)[4])});
  }
  return found;
}

double area(const std::vector<Rect>& all) {
  double sum = 0;
  for (const Rect& rect : all) sum += rect.width * rect.height;
  return sum;
}

MaskView view_of(const std::string& rule, int64_t num_tokens, std::vector<int64_t> documents,
                 const MaskViewOptions& geometry = {}) {
  return make_mask_view(
      rule, {.num_tokens = num_tokens, .rows = {{.documents = std::move(documents)}}}, geometry);
}

TEST(MaskSvg, HasTitleAxesTicksLegendAndDocuments) {
  const std::string svg = mask_svg(view_of("causal & document", 1024, {300, 400}), 0);
  expect_well_formed_svg(svg);
  EXPECT_THAT(svg, ::testing::StartsWith("<svg"));
  EXPECT_THAT(svg, ::testing::HasSubstr("<rect width=\"770\" height=\"776\" fill=\"#ffffff\"/>"))
      << "a background of its own";
  EXPECT_THAT(svg_texts(svg),
              ::testing::IsSupersetOf({"causal &amp; document", "full", "partial", "empty",
                                       "key (token)", "query (token)", "0", "128", "1,024",
                                       "document 0", "document 1", "padding"}));
  EXPECT_THAT(svg_texts(svg),
              ::testing::Contains("1,024 x 1,024 tokens, tiles of 128 x 128, sparsity 68.75%"));
  EXPECT_THAT(svg, ::testing::HasSubstr("sparsity 68.75%</title>"));
  EXPECT_EQ(rects(svg_group(svg, "key-documents")).size(), 3u);
  EXPECT_EQ(rects(svg_group(svg, "query-documents")).size(), 3u);
  EXPECT_EQ(rects(svg_group(svg, "legend")).size(), 3u);
}

TEST(MaskSvg, TilesOfEachStateAndNoOthers) {
  const std::string svg = mask_svg(view_of("causal", 512, {512}), 0);
  EXPECT_EQ(rects(svg_group(svg, "full")).size(), 3u) << "one stretch in each of three rows";
  EXPECT_EQ(rects(svg_group(svg, "partial")).size(), 4u);
  const double tile = 150.0 * 150.0;
  EXPECT_NEAR(area(rects(svg_group(svg, "full"))), 6 * tile, 1);
  EXPECT_NEAR(area(rects(svg_group(svg, "partial"))), 4 * tile, 1);
  const std::vector<Rect> partial = rects(svg_group(svg, "partial"));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(partial[i].x - partial[0].x, 150.0 * static_cast<double>(i));
    EXPECT_EQ(partial[i].y - partial[0].y, 150.0 * static_cast<double>(i));
  }
  EXPECT_EQ(svg_group(svg, "mostly-full"), "");
}

TEST(MaskSvg, FullTilesAreOneRectangle) {
  const std::string svg = mask_svg(view_of("full", 5000, {5000}), 0);
  const std::vector<Rect> full = rects(svg_group(svg, "full"));
  ASSERT_EQ(full.size(), 1u);
  EXPECT_NEAR(area(full), 600.0 * 600, 1e-6);
  EXPECT_EQ(svg_group(svg, "partial"), "");
  const std::string nothing = mask_svg(view_of("none", 5000, {5000}), 0);
  expect_well_formed_svg(nothing);
  EXPECT_EQ(svg_group(nothing, "full") + svg_group(nothing, "partial"), "");
}

TEST(MaskSvg, NeighboursMeet) {
  const std::string svg = mask_svg(view_of("causal", 131072, {131072}), 0);
  const std::vector<Rect> full = rects(svg_group(svg, "full"));
  ASSERT_GT(full.size(), 100u);
  for (size_t i = 1; i < full.size(); ++i) {
    EXPECT_NEAR(full[i].y, full[i - 1].y + full[i - 1].height, 1e-9) << "row " << i;
  }
}

TEST(MaskSvg, LongRowsStaySmall) {
  for (const int64_t num_tokens : {131072, 1048576}) {
    std::vector<int64_t> documents(num_tokens / 700, 700);  // shorter than a pixel
    const std::string svg =
        mask_svg(view_of("causal & document & window(left=4000)", num_tokens, documents), 0);
    expect_well_formed_svg(svg);
    EXPECT_LT(svg.size(), 200'000u);
    EXPECT_LE(rects(svg_group(svg, "key-documents")).size(), 300u);
    EXPECT_THAT(svg, ::testing::HasSubstr("(means of "));
    EXPECT_THAT(svg_texts(svg), ::testing::IsSupersetOf({"mostly full", "mostly empty"}));
  }
  const std::string one_long = mask_svg(view_of("causal & document", 131072, {100000, 9000}), 0);
  EXPECT_LT(rects(one_long).size(), 1000u);
  EXPECT_THAT(svg_texts(one_long), ::testing::Contains("131,072"));
}

TEST(MaskSvg, EverythingLiesOnThePage) {
  const std::vector<MaskView> views = {
      view_of("causal", 1, {1}), view_of("causal & document", 130, {7, 100}),
      view_of("causal", 4096, {4096}, {.q_offset = 4095}),
      view_of("causal", 4096, {4096}, {.block = {1, 1}, .kv_offset = 4095})};
  for (const MaskView& view : views) {
    const std::string svg = mask_svg(view, 0);
    expect_well_formed_svg(svg);
    std::smatch page;
    ASSERT_TRUE(std::regex_search(svg, page, std::regex("width=\"([0-9]+)\" height=\"([0-9]+)\"")));
    for (const Rect& rect : rects(svg)) {
      EXPECT_LE(rect.x + rect.width, std::stod(page[1]));
      EXPECT_LE(rect.y + rect.height, std::stod(page[2]));
      EXPECT_GT(rect.width, 0);
      EXPECT_GT(rect.height, 0);
    }
  }
}

TEST(MaskSvg, APartOfTheRowIsLabelledByItsTokens) {
  const MaskView view =
      view_of("causal & document", 4096, {2000, 2096}, {.q_offset = 3072, .kv_offset = 2048});
  const std::vector<std::string> texts = svg_texts(mask_svg(view, 0));
  EXPECT_THAT(texts, ::testing::IsSupersetOf({"2,048", "3,072", "4,096", "document 1"}));
  EXPECT_THAT(texts, ::testing::Not(::testing::Contains("document 0")));
}

TEST(MaskSvg, OneQueryIsLabelledToo) {
  const MaskView view = view_of("causal", 4096, {4096}, {.q_offset = 4095});
  EXPECT_THAT(svg_texts(mask_svg(view, 0)), ::testing::Contains("4,095"));
}

TEST(MaskSvg, RowsOfABatchAreToldApart) {
  const MaskView view = make_mask_view(
      "document", {.num_tokens = 256, .rows = {{.documents = {256}}, {.documents = {128, 128}}}},
      {});
  const std::string svg = mask_svg(view, 1);
  EXPECT_THAT(svg, ::testing::HasSubstr("sparsity 50.00%, row 1 of 2"));
  EXPECT_EQ(rects(svg_group(svg, "full")).size(), 2u);
  EXPECT_EQ(rects(svg_group(mask_svg(view, 0), "full")).size(), 1u);
}

TEST(MaskSvg, LongRulesAreCutAndStayInTheTooltip) {
  std::string rule = "causal";
  for (int i = 0; i < 20; ++i) rule += " & window(left=" + std::to_string(i) + ")";
  const std::string svg = mask_svg(view_of(rule, 10, {10}), 0);
  EXPECT_THAT(svg, ::testing::HasSubstr("...</text>"));
  EXPECT_THAT(svg, ::testing::HasSubstr("window(left=19): 10 x 10"));
}

TEST(MaskSvg, IsWrittenToAFile) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "mask.svg").string();
  const MaskView view = view_of("causal", 512, {512});
  write_mask_svg(path, view, 0);
  EXPECT_EQ(testing::content_of(path), mask_svg(view, 0));
  EXPECT_ERROR(write_mask_svg(path + "/mask.svg", view, 0), "--svg", path + "/mask.svg");
}

}  // namespace
}  // namespace tessera
