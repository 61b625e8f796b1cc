// A mask in the characters of a terminal, queries downwards and keys to the right:
//
//             0   256     512     768
//            ┬───────┬─────┬─────
//          0 ├▒▒ · · · · ·
//        128 │██▒▒ · · · ·
//        256 ├ · ·▒▒ · · ·
//
// A cell is one tile, or a square of tiles where there is not room for all; it shows their mean.
// ┬ and ├ stand where a document (or the padding) starts.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

struct PictureOptions {
  int64_t columns = 80;  // no row of cells is wider, unless there is no room for one cell
  bool color = false;
};

// Batch row `row`; ends with the legend.
std::string mask_picture(const MaskView& view, int64_t row, const PictureOptions& options);

// What pictures need to know of the file descriptor that they go to: a terminal's width, 80 for
// others.
struct Console {
  bool is_terminal = false;
  int64_t columns = 80;
};
Console console_of(int fd);

}  // namespace tessera
