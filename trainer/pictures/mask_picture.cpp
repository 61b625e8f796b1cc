#include "trainer/pictures/mask_picture.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "trainer/pictures/mask_grid.h"
#include "trainer/support/text_format.h"

namespace tessera {
namespace {

constexpr int64_t kMaxCells = 64;  // a side

struct Glyph {
  const char* text;  // two columns, so that a cell is about square
  const char* color;
  const char* meaning;
};

// The glyphs in the order of CellState.
constexpr std::array<Glyph, 5> kGlyphs = {{{" ·", "\x1b[2m", "empty"},
                                           {"░░", "\x1b[33m", "mostly empty"},
                                           {"▒▒", "\x1b[33m", "partial"},
                                           {"▓▓", "\x1b[33m", "mostly full"},
                                           {"██", "\x1b[36m", "full"}}};
constexpr const char* kPlain = "\x1b[0m";

const Glyph& glyph(CellState state) { return kGlyphs[static_cast<size_t>(state)]; }

// The cells of one side of the picture, and the tokens that they start with.
struct Axis {
  int64_t begin = 0;  // token of the first cell
  int64_t step = 1;   // tokens of a cell
  int64_t num_cells = 0;

  int64_t token(int64_t cell) const { return begin + cell * step; }
  std::string label(int64_t cell) const { return with_commas(token(cell)); }
};

// Whether each cell holds the start of a document.
std::vector<bool> document_marks(const Axis& axis, const std::vector<DocumentSpan>& spans) {
  std::vector<bool> marks(axis.num_cells);
  for (const DocumentSpan& span : spans) {
    const int64_t start = span.tokens.begin - axis.begin;
    if (start >= 0 && start / axis.step < axis.num_cells) marks[start / axis.step] = true;
  }
  return marks;
}

// Labels of as many keys as have room, each over the first column of its cell.
std::string key_labels(const Axis& keys) {
  const auto widest = static_cast<int64_t>(keys.label(keys.num_cells - 1).size());
  const int64_t every = widest / 2 + 1;  // at least one blank between labels
  std::string line;
  for (int64_t cell = 0; cell < keys.num_cells; cell += every) {
    const std::string label = keys.label(cell);
    if (cell > 0 && 2 * cell + static_cast<int64_t>(label.size()) > 2 * keys.num_cells) break;
    line.resize(2 * cell, ' ');
    line += label;
  }
  return line;
}

std::string row_of_cells(const TileGrid& grid, int64_t row, bool color) {
  std::string line;
  const Glyph* previous = nullptr;
  for (int64_t col = 0; col < grid.num_cols; ++col) {
    const Glyph& now = glyph(grid.at(row, col));
    if (color && (previous == nullptr || std::string_view(previous->color) != now.color)) {
      line += (previous == nullptr ? "" : kPlain) + std::string(now.color);
    }
    line += now.text;
    previous = &now;
  }
  return line + (color ? kPlain : "");
}

std::string legend(const TileGrid& grid, bool color) {
  std::string line;
  for (auto entry = kGlyphs.rbegin(); entry != kGlyphs.rend(); ++entry) {
    const bool is_mean =
        entry->text == std::string_view("░░") || entry->text == std::string_view("▓▓");
    if (is_mean && grid.one_tile_a_cell()) continue;
    line += (line.empty() ? "" : "  ") + (color ? std::string(entry->color) : "") + entry->text +
            (color ? kPlain : "") + " " + entry->meaning;
  }
  if (!grid.one_tile_a_cell()) {
    line += "\na cell is " + with_commas(grid.row_step) + " x " + with_commas(grid.col_step) +
            " tiles and shows their mean";
  }
  return line + "\n";
}

}  // namespace

std::string mask_picture(const MaskView& view, int64_t row, const PictureOptions& options) {
  const MaskShape& shape = view.mask.shape();
  const auto margin = static_cast<int64_t>(with_commas(view.queries.end).size()) + 2;
  const int64_t max_cells = std::clamp<int64_t>((options.columns - margin) / 2, 1, kMaxCells);
  const TileGrid grid = tile_grid(view.mask, row, max_cells, max_cells);
  const Axis queries{view.queries.begin, grid.row_step * shape.block.q, grid.num_rows};
  const Axis keys{view.keys.begin, grid.col_step * shape.block.kv, grid.num_cols};
  const std::vector<DocumentSpan> spans =
      document_spans(view.layout.rows[row], view.layout.num_tokens);

  const std::string indent(margin, ' ');
  std::string picture = indent + key_labels(keys) + "\n" + indent;
  for (const bool mark : document_marks(keys, spans)) picture += mark ? "┬─" : "──";
  picture += "\n";
  const std::vector<bool> query_marks = document_marks(queries, spans);
  for (int64_t r = 0; r < grid.num_rows; ++r) {
    picture += pad_left(queries.label(r), margin - 2) + (query_marks[r] ? " ├" : " │") +
               row_of_cells(grid, r, options.color) + "\n";
  }
  return picture + legend(grid, options.color);
}

Console console_of(int fd) {
  if (isatty(fd) != 1) return {};
  winsize size{};
  const bool known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return {.is_terminal = true, .columns = known ? size.ws_col : Console{}.columns};
}

}  // namespace tessera
