// The few SVG elements that our figures are made of, as text.
//
//   std::string svg = svg_header({.width = 900, .height = 500, .title = "Training loss"});
//   svg += svg_text(450, 32, "Training loss", {.anchor = "middle", .size = 17});
//   svg += "</svg>\n";
#pragma once

#include <string>

namespace tessera {

inline constexpr const char* kSvgTextColor = "#1d232b";
inline constexpr const char* kSvgAxisColor = "#4d5561";

struct SvgPage {
  int width = 900;  // pixels
  int height = 500;
  std::string title = {};  // shown as a tooltip and read aloud; any text
};

// The opening tag, the title and a white background; the page ends with "</svg>\n".
std::string svg_header(const SvgPage& page);

// Pixels with one decimal.
std::string svg_px(double pixels);

struct SvgTextStyle {
  const char* anchor = "start";
  int size = 12;
  const char* color = kSvgTextColor;
  const char* extra = "";  // more attributes, each after a blank
};

// content: any text; it is escaped.
std::string svg_text(double x, double y, const std::string& content, const SvgTextStyle& style);

std::string svg_line(double x1, double y1, double x2, double y2, const char* color, double width);

struct SvgRect {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

// color: empty where a group around it gives one.
std::string svg_rect(const SvgRect& rect, const std::string& color);

}  // namespace tessera
