// A mask in the characters of a terminal, queries downwards and keys to the right. 16 tokens in
// documents of 12 and 4, causal & document, in tiles of 4 x 4:
//
//       0   8
//       ┬─────┬─
//    0 ├▒▒ · · ·
//    4 │██▒▒ · ·
//    8 │████▒▒ ·
//   12 ├ · · ·▒▒
//   ██ full  ▒▒ partial   · empty
//
// A cell is one tile, or a square of tiles where there is not room for all; it shows their mean
// (mask_grid.h). ┬ and ├ stand where a document (or the padding) starts.
//
//   std::cout << mask_picture(view, /*row=*/0, {.columns = console_of(STDOUT_FILENO).columns});
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

struct PictureOptions {
  int64_t columns = 80;  // no row of cells is wider, unless there is no room for one cell
  bool color = false;    // with SGR colour codes
};

// The picture of batch row `row` of the view, with at most 64 x 64 cells; ends with the legend.
std::string mask_picture(const MaskView& view, int64_t row, const PictureOptions& options);

// What pictures need to know of the file descriptor that they go to. columns: a terminal's width;
// 80 for anything else, and for a terminal that does not tell.
struct Console {
  bool is_terminal = false;
  int64_t columns = 80;
};
Console console_of(int fd);

}  // namespace tessera
