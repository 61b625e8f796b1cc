#include "trainer/pictures/mask_svg.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "data/files/durable_file.h"
#include "trainer/pictures/mask_grid.h"
#include "trainer/pictures/svg.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

// Sizes in pixels.
constexpr double kPlotSide = 600;
constexpr double kLeast = 24;  // of a mask with few queries or few keys
constexpr double kLeft = 126;
constexpr double kTop = 118;
constexpr double kStrip = 14;
constexpr double kStripGap = 4;

constexpr int64_t kMaxCells = 200;  // a side
constexpr int64_t kMaxLinedTiles = 64;
constexpr const char* kEmptyColor = "#e9edf2";
constexpr const char* kPaddingColor = "#c9d0d8";
constexpr std::array<const char*, 2> kDocumentColors = {"#55606e", "#8b97a5"};

struct StateStyle {
  CellState state;
  const char* name;  // the class of its rectangles
  const char* color;
  const char* label;
};

constexpr std::array<StateStyle, 5> kStyles = {
    {{CellState::kFull, "full", "#175a9e", "full"},
     {CellState::kMostlyFull, "mostly-full", "#c9750c", "mostly full"},
     {CellState::kMixed, "partial", "#f0a63a", "partial"},
     {CellState::kMostlyEmpty, "mostly-empty", "#f8dcae", "mostly empty"},
     {CellState::kEmpty, "empty", kEmptyColor, "empty"}}};

bool is_mean(CellState state) {
  return state == CellState::kMostlyFull || state == CellState::kMostlyEmpty;
}

// Tokens along one side of the plot.
struct Axis {
  TokenRange tokens;
  double begin = 0;  // pixels
  double end = 0;

  double scale() const { return (end - begin) / static_cast<double>(tokens.size()); }
  // The place of a token, rounded to the tenth that svg_px prints: sizes are differences of rounded
  // places, so that neighbours meet.
  double px(int64_t token) const {
    const int64_t inside = std::clamp(token, tokens.begin, tokens.end);
    return std::round(10 * (begin + static_cast<double>(inside - tokens.begin) * scale())) / 10;
  }
};

struct Figure {
  const MaskView& view;
  int64_t row;
  TileGrid grid;
  Axis queries;
  Axis keys;

  // Tokens of one cell along an axis.
  int64_t cell_queries() const { return grid.row_step * view.mask.shape().block.q; }
  int64_t cell_keys() const { return grid.col_step * view.mask.shape().block.kv; }
};

// A token is as wide as it is high, unless that would make one side too small to see.
Figure make_figure(const MaskView& view, int64_t row) {
  const auto num_queries = static_cast<double>(view.queries.size());
  const auto num_keys = static_cast<double>(view.keys.size());
  const double scale = kPlotSide / std::max(num_queries, num_keys);
  return {.view = view,
          .row = row,
          .grid = tile_grid(view.mask, row, kMaxCells, kMaxCells),
          .queries = {view.queries, kTop, kTop + std::max(kLeast, num_queries * scale)},
          .keys = {view.keys, kLeft, kLeft + std::max(kLeast, num_keys * scale)}};
}

// Columns [begin, end) of equal state in a row of cells.
struct Stretch {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator<(const Stretch& other) const {
    return begin != other.begin ? begin < other.begin : end < other.end;
  }
};

std::vector<Stretch> stretches(const TileGrid& grid, int64_t row, CellState state) {
  std::vector<Stretch> found;
  for (int64_t col = 0; col < grid.num_cols; ++col) {
    if (grid.at(row, col) != state) continue;
    if (found.empty() || found.back().end != col) found.push_back({col, col});
    ++found.back().end;
  }
  return found;
}

std::string cell_rect(const Figure& figure, const Stretch& stretch, int64_t begin, int64_t end) {
  const auto x = [&](int64_t col) {
    return figure.keys.px(figure.keys.tokens.begin + col * figure.cell_keys());
  };
  const auto y = [&](int64_t row) {
    return figure.queries.px(figure.queries.tokens.begin + row * figure.cell_queries());
  };
  return svg_rect({.x = x(stretch.begin),
                   .y = y(begin),
                   .width = x(stretch.end) - x(stretch.begin),
                   .height = y(end) - y(begin)},
                  "");
}

// Rectangles of one state: stretches of a row, together with the same stretch of the rows above.
std::string cells_of(const Figure& figure, const StateStyle& style) {
  std::string rects;
  std::map<Stretch, int64_t> open;  // to the row where it began
  for (int64_t row = 0; row <= figure.grid.num_rows; ++row) {
    std::map<Stretch, int64_t> next;
    if (row < figure.grid.num_rows) {
      for (const Stretch& stretch : stretches(figure.grid, row, style.state)) {
        const auto above = open.find(stretch);
        next.emplace(stretch, above == open.end() ? row : above->second);
      }
    }
    for (const auto& [stretch, begin] : open) {
      if (next.count(stretch) == 0) rects += cell_rect(figure, stretch, begin, row);
    }
    open = std::move(next);
  }
  if (rects.empty()) return "";
  return std::string("<g class=\"") + style.name + "\" fill=\"" + style.color +
         "\" shape-rendering=\"crispEdges\">\n" + rects + "</g>\n";
}

std::string rect_of(const Figure& figure, const char* color) {
  return svg_rect({.x = figure.keys.begin,
                   .y = figure.queries.begin,
                   .width = figure.keys.end - figure.keys.begin,
                   .height = figure.queries.end - figure.queries.begin},
                  color);
}

// White lines between tiles, where they are large enough.
std::string tile_lines(const Figure& figure) {
  const TileGrid& grid = figure.grid;
  if (!grid.one_tile_a_cell() || std::max(grid.num_rows, grid.num_cols) > kMaxLinedTiles) return "";
  std::string path;
  for (int64_t row = 1; row < grid.num_rows; ++row) {
    path += "M" + svg_px(figure.keys.begin) + " " +
            svg_px(figure.queries.px(figure.queries.tokens.begin + row * figure.cell_queries())) +
            "H" + svg_px(figure.keys.end);
  }
  for (int64_t col = 1; col < grid.num_cols; ++col) {
    path += "M" + svg_px(figure.keys.px(figure.keys.tokens.begin + col * figure.cell_keys())) +
            " " + svg_px(figure.queries.begin) + "V" + svg_px(figure.queries.end);
  }
  if (path.empty()) return "";
  return "<path d=\"" + path +
         "\" fill=\"none\" stroke=\"#ffffff\" stroke-width=\"0.7\" stroke-opacity=\"0.7\"/>\n";
}

// A piece of the strip along an axis: one document, the padding, or several documents that are too
// short to tell apart.
struct StripPiece {
  TokenRange tokens;
  std::string color;
  std::string label;  // empty for several
};

std::vector<StripPiece> strip_pieces(const Axis& axis, const std::vector<DocumentSpan>& spans) {
  constexpr double kLeastPixels = 2;
  std::vector<StripPiece> pieces;
  int64_t index = 0;
  for (const DocumentSpan& span : spans) {
    const int64_t id = index++;
    const TokenRange tokens{std::max(span.tokens.begin, axis.tokens.begin),
                            std::min(span.tokens.end, axis.tokens.end)};
    if (tokens.empty()) continue;
    const bool joins =
        !pieces.empty() &&
        static_cast<double>(pieces.back().tokens.size()) * axis.scale() < kLeastPixels;
    if (joins) {
      pieces.back().tokens.end = tokens.end;
      pieces.back().label.clear();
    } else if (span.padding) {
      pieces.push_back({tokens, kPaddingColor, "padding"});
    } else {
      // Colours go by place and not by id, so that neighbours differ also beside joined documents.
      pieces.push_back({tokens, kDocumentColors[pieces.size() % 2], std::to_string(id)});
    }
  }
  return pieces;
}

// The label that fits in so many pixels: "document 3", "3" or nothing.
std::string fitting_label(const StripPiece& piece, double pixels) {
  constexpr double kCharacter = 6;
  const auto fits = [&](const std::string& text) {
    return kCharacter * static_cast<double>(text.size()) + 4 <= pixels;
  };
  if (piece.label.empty()) return "";
  std::string full = piece.label == "padding" ? piece.label : "document " + piece.label;
  if (fits(full)) return full;
  return piece.label != "padding" && fits(piece.label) ? piece.label : "";
}

std::string document_strips(const Figure& figure) {
  const std::vector<DocumentSpan> spans =
      document_spans(figure.view.layout.rows[figure.row], figure.view.layout.num_tokens);
  // A label around (x, y): a third of the font's size puts the middle of the letters there.
  const auto label = [](double x, double y, const StripPiece& piece, double pixels, bool turned) {
    const std::string text = fitting_label(piece, pixels);
    if (text.empty()) return std::string();
    const char* color = piece.color == kPaddingColor ? kSvgTextColor : "#ffffff";
    const std::string turn =
        turned ? " transform=\"rotate(-90 " + svg_px(x) + " " + svg_px(y) + ")\"" : "";
    return svg_text(x, y + 3.5, text,
                    {.anchor = "middle", .size = 10, .color = color, .extra = turn.c_str()});
  };
  std::string keys = "<g class=\"key-documents\">\n";
  const double top = figure.queries.begin - kStripGap - kStrip;
  for (const StripPiece& piece : strip_pieces(figure.keys, spans)) {
    const double begin = figure.keys.px(piece.tokens.begin);
    const double size = figure.keys.px(piece.tokens.end) - begin;
    keys += svg_rect({begin, top, size, kStrip}, piece.color) +
            label(begin + size / 2, top + kStrip / 2, piece, size, false);
  }
  std::string queries = "<g class=\"query-documents\">\n";
  const double left = figure.keys.begin - kStripGap - kStrip;
  for (const StripPiece& piece : strip_pieces(figure.queries, spans)) {
    const double begin = figure.queries.px(piece.tokens.begin);
    const double size = figure.queries.px(piece.tokens.end) - begin;
    queries += svg_rect({left, begin, kStrip, size}, piece.color) +
               label(left + kStrip / 2, begin + size / 2, piece, size, true);
  }
  return keys + "</g>\n" + queries + "</g>\n";
}

// Tokens to label: multiples of the block size times a power of two, with room between them.
std::vector<int64_t> ticks(const Axis& axis, int64_t block) {
  constexpr double kPixelsApart = 60;
  int64_t spacing = block;
  while (static_cast<double>(spacing) * axis.scale() < kPixelsApart) spacing *= 2;
  std::vector<int64_t> tokens;
  for (int64_t token = (axis.tokens.begin + spacing - 1) / spacing * spacing;
       token <= axis.tokens.end; token += spacing) {
    tokens.push_back(token);
  }
  // A part of the row that is shorter than the spacing may hold no such token.
  if (tokens.empty() || tokens.front() == axis.tokens.end) return {axis.tokens.begin};
  return tokens;
}

std::string axes(const Figure& figure) {
  const BlockSize& block = figure.view.mask.shape().block;
  const double bottom = figure.queries.end;
  const double labels_end = figure.keys.begin - kStripGap - kStrip - 9;
  std::string svg;
  for (const int64_t token : ticks(figure.keys, block.kv)) {
    const double x = figure.keys.px(token);
    svg += svg_line(x, bottom, x, bottom + 5, kSvgAxisColor, 1);
    svg += svg_text(x, bottom + 19, with_commas(token), {.anchor = "middle"});
  }
  for (const int64_t token : ticks(figure.queries, block.q)) {
    const double y = figure.queries.px(token);
    svg += svg_line(labels_end + 3, y, labels_end + 8, y, kSvgAxisColor, 1);
    svg += svg_text(labels_end, y + 4, with_commas(token), {.anchor = "end"});
  }
  svg += svg_text((figure.keys.begin + figure.keys.end) / 2, bottom + 41, "key (token)",
                  {.anchor = "middle", .size = 13});
  const double middle = (figure.queries.begin + bottom) / 2;
  const std::string turn = " transform=\"rotate(-90 20 " + svg_px(middle) + ")\"";
  return svg + svg_text(20, middle, "query (token)",
                        {.anchor = "middle", .size = 13, .extra = turn.c_str()});
}

std::string legend(const Figure& figure) {
  constexpr double kCharacter = 6.6;
  constexpr double kY = 74;
  std::string svg = "<g class=\"legend\">\n";
  double x = kLeft;
  const auto entry = [&](const std::string& label, const char* color) {
    svg += svg_rect({x, kY - 6, 12, 12}, color) + svg_text(x + 18, kY + 4, label, {});
    x += 18 + kCharacter * static_cast<double>(label.size()) + 18;
  };
  const bool means = !figure.grid.one_tile_a_cell();
  for (const StateStyle& style : kStyles) {
    if (means || !is_mean(style.state)) entry(style.label, style.color);
  }
  if (means) {
    svg += svg_text(x, kY + 4,
                    "(means of " + with_commas(figure.grid.row_step) + " x " +
                        with_commas(figure.grid.col_step) + " tiles)",
                    {.color = kSvgAxisColor});
  }
  return svg + "</g>\n";
}

std::string subtitle(const MaskView& view, int64_t row) {
  const MaskShape& shape = view.mask.shape();
  std::string text = with_commas(shape.q_len) + " x " + with_commas(shape.kv_len) +
                     " tokens, tiles of " + std::to_string(shape.block.q) + " x " +
                     std::to_string(shape.block.kv) + ", sparsity " +
                     fixed(view.mask.batch_row(row).sparsity(), 2) + "%";
  if (shape.batch > 1) {
    text += ", row " + std::to_string(row) + " of " + std::to_string(shape.batch);
  }
  return text;
}

std::string shortened(std::string rule) {
  constexpr size_t kMost = 80;
  if (rule.size() > kMost) {
    rule.resize(kMost - 3);
    rule += "...";
  }
  return rule;
}

}  // namespace

std::string mask_svg(const MaskView& view, int64_t row) {
  const Figure figure = make_figure(view, row);
  const std::string rule = view.rule.to_string();
  const std::string details = subtitle(view, row);
  const SvgPage page{.width = static_cast<int>(kLeft + kPlotSide + 44),
                     .height = static_cast<int>(figure.queries.end + 58),
                     .title = rule + ": " + details};
  const double middle = page.width / 2.0;
  std::string svg = svg_header(page);
  svg += svg_text(middle, 28, shortened(rule),
                  {.anchor = "middle", .size = 15, .extra = " font-weight=\"600\""});
  svg += svg_text(middle, 49, details, {.anchor = "middle", .size = 13, .color = kSvgAxisColor});
  svg += legend(figure) + rect_of(figure, kEmptyColor);
  for (const StateStyle& style : kStyles) {
    if (style.state != CellState::kEmpty) svg += cells_of(figure, style);
  }
  return svg + tile_lines(figure) + document_strips(figure) + axes(figure) + "</svg>\n";
}

void write_mask_svg(const std::string& path, const MaskView& view, int64_t row) {
  try {
    write_durable_file(path, mask_svg(view, row));
  } catch (c10::Error& error) {
    error.add_context("--svg: " + path);
    throw;
  }
}

}  // namespace tessera
