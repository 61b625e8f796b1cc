#include "trainer/pictures/svg.h"

#include "trainer/support/text_format.h"

namespace tessera {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += ' ';  // XML 1.0 has no place for control characters
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string svg_header(const SvgPage& page) {
  const std::string width = std::to_string(page.width);
  const std::string height = std::to_string(page.height);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + height +
         "\" viewBox=\"0 0 " + width + " " + height +
         "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" role=\"img\">\n<title>" +
         escaped(page.title) + "</title>\n<rect width=\"" + width + "\" height=\"" + height +
         "\" fill=\"#ffffff\"/>\n";
}

std::string svg_px(double pixels) { return fixed(pixels, 1); }

std::string svg_text(double x, double y, const std::string& content, const SvgTextStyle& style) {
  return "<text x=\"" + svg_px(x) + "\" y=\"" + svg_px(y) + "\" text-anchor=\"" + style.anchor +
         "\" font-size=\"" + std::to_string(style.size) + "\" fill=\"" + style.color + "\"" +
         style.extra + ">" + escaped(content) + "</text>\n";
}

std::string svg_line(double x1, double y1, double x2, double y2, const char* color, double width) {
  return "<line x1=\"" + svg_px(x1) + "\" y1=\"" + svg_px(y1) + "\" x2=\"" + svg_px(x2) +
         "\" y2=\"" + svg_px(y2) + "\" stroke=\"" + color + "\" stroke-width=\"" + svg_px(width) +
         "\"/>\n";
}

std::string svg_rect(const SvgRect& rect, const std::string& color) {
  return "<rect x=\"" + svg_px(rect.x) + "\" y=\"" + svg_px(rect.y) + "\" width=\"" +
         svg_px(rect.width) + "\" height=\"" + svg_px(rect.height) + "\"" +
         (color.empty() ? "" : " fill=\"" + color + "\"") + "/>\n";
}

}  // namespace tessera
