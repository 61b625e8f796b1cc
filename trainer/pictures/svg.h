// The few SVG elements that our figures are made of, as text. Coordinates and sizes are in pixels.
// Internal to trainer/pictures/.
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
  int width = 900;
  int height = 500;
  std::string title = {};  // shown as a tooltip and read aloud; any text, it is escaped
};

// The opening tag, the title and a white background; the page ends with "</svg>\n".
std::string svg_header(const SvgPage& page);

// A number of pixels with one decimal.
std::string svg_px(double pixels);

struct SvgTextStyle {
  const char* anchor = "start";  // or "middle", "end": which part of the text is at x
  int size = 12;
  const char* color = kSvgTextColor;
  const char* extra = "";  // more attributes, each after a blank
};

// A line of text whose base line is at y. content: any text; it is escaped.
std::string svg_text(double x, double y, const std::string& content, const SvgTextStyle& style);

std::string svg_line(double x1, double y1, double x2, double y2, const char* color, double width);

struct SvgRect {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

// A filled rectangle. color: empty where a group around it gives one.
std::string svg_rect(const SvgRect& rect, const std::string& color);

}  // namespace tessera
