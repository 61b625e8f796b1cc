#include "trainer/pictures/svg.h"

#include <gtest/gtest.h>

#include "tests/trainer/pictures/svg_support.h"

namespace tessera {
namespace {

TEST(Svg, ElementsMakeAPage) {
  const std::string svg = svg_header({.width = 40, .height = 30, .title = "a page"}) +
                          svg_text(1, 2, "words", {}) + svg_line(0, 0, 3, 4, kSvgAxisColor, 1) +
                          svg_rect({1, 2, 3, 4}, "#ffffff") + "</svg>\n";
  testing::expect_well_formed_svg(svg);
  EXPECT_NE(svg.find("width=\"40\" height=\"30\" viewBox=\"0 0 40 30\""), std::string::npos);
  EXPECT_NE(svg.find("<title>a page</title>"), std::string::npos);
  EXPECT_EQ(testing::svg_texts(svg), std::vector<std::string>{"words"});
}

TEST(Svg, TextIsEscaped) {
  EXPECT_NE(svg_text(0, 0, "a<b & \"c\"\n>", {}).find(">a&lt;b &amp; &quot;c&quot; &gt;</text>"),
            std::string::npos);
  EXPECT_NE(svg_header({.title = "a & b"}).find("<title>a &amp; b</title>"), std::string::npos);
}

TEST(Svg, RectanglesTakeTheirColorFromTheGroupWithoutOne) {
  EXPECT_EQ(svg_rect({1, 2.25, 3, 4.06}, ""),
            "<rect x=\"1.0\" y=\"2.2\" width=\"3.0\" height=\"4.1\"/>\n");
  EXPECT_EQ(svg_rect({0, 0, 1, 1}, "red"),
            "<rect x=\"0.0\" y=\"0.0\" width=\"1.0\" height=\"1.0\" fill=\"red\"/>\n");
}

TEST(Svg, TextStyle) {
  EXPECT_EQ(svg_text(1, 2, "t", {.anchor = "end", .size = 9, .color = "red", .extra = " x=\"y\""}),
            "<text x=\"1.0\" y=\"2.0\" text-anchor=\"end\" font-size=\"9\" fill=\"red\" x=\"y\">"
            "t</text>\n");
}

}  // namespace
}  // namespace tessera
