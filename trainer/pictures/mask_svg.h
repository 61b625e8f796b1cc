// A mask as one SVG figure: tiles by state, queries downwards, keys to the right, axes in tokens, a
// strip of documents along each, the sparsity in the title.
//
// However large the mask, the figure has at most 200 x 200 cells; beyond, a cell shows the mean of
// its tiles. Neighbouring cells of one state are one rectangle.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/pictures/mask_view.h"

namespace tessera {

// Batch row `row` of the view.
std::string mask_svg(const MaskView& view, int64_t row);

// The same into a file, atomically; throws c10::Error naming --svg and the path.
void write_mask_svg(const std::string& path, const MaskView& view, int64_t row);

}  // namespace tessera
