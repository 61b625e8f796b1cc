// Looking into SVG text without an XML library.
//
//   expect_well_formed_svg(svg);
//   EXPECT_THAT(svg_texts(svg), Contains("rank 0"));
#pragma once

#include <gmock/gmock.h>

#include <regex>
#include <string>
#include <vector>

namespace tessera::testing {

// The contents of all text elements.
inline std::vector<std::string> svg_texts(const std::string& svg) {
  std::vector<std::string> found;
  const std::regex pattern("<text[^>]*>([^<]*)</text>");
  for (std::sregex_iterator it(svg.begin(), svg.end(), pattern), end; it != end; ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

// The text from <g class="name" ...> up to its </g>; empty without such a group.
inline std::string svg_group(const std::string& svg, const std::string& name) {
  const size_t begin = svg.find("<g class=\"" + name + "\"");
  return begin == svg.npos ? "" : svg.substr(begin, svg.find("</g>", begin) - begin);
}

// Expects that tags open and close in order, attributes are quoted, nothing is left over, and no
// number is NaN or infinite.
inline void expect_well_formed_svg(const std::string& svg) {
  std::vector<std::string> open;
  const std::regex tag(R"RE(<(/?)([a-z]+)((?: [a-zA-Z0-9-]+="[^"<]*")*)(/?)>)RE");
  size_t at = 0;
  for (std::sregex_iterator it(svg.begin(), svg.end(), tag), end; it != end; ++it) {
    const std::string between = svg.substr(at, it->position() - at);
    EXPECT_EQ(between.find_first_of("<>"), between.npos) << between;
    at = it->position() + it->length();
    if ((*it)[1] == "/") {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(open.back(), (*it)[2]);
      open.pop_back();
    } else if ((*it)[4] != "/") {
      open.push_back((*it)[2]);
    }
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(svg.substr(at), "\n");
  EXPECT_THAT(svg, ::testing::Not(::testing::HasSubstr("nan")));
  EXPECT_THAT(svg, ::testing::Not(::testing::HasSubstr("inf")));
}

}  // namespace tessera::testing
