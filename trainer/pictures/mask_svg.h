// A mask as one SVG figure: tiles by state, queries downwards, keys to the right, axes in tokens, a
// strip of documents along each, the sparsity in the title.
//
// However large the mask, the figure has at most 200 x 200 cells. Beyond that a cell shows the mean
// of its tiles (mask_grid.h). Neighbouring cells of one state are one rectangle.
//
//   write_mask_svg("mask.svg", view, /*row=*/0);
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

// The text of the SVG file, for batch row `row` of the view.
std::string mask_svg(const MaskView& view, int64_t row);

// Writes mask_svg into a file, atomically. Throws c10::Error naming --svg and the path when it
// cannot be written.
void write_mask_svg(const std::string& path, const MaskView& view, int64_t row);

}  // namespace tessera
