#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "trainer/cli/commands.h"
#include "trainer/launch/environment.h"
#include "trainer/pictures/mask_picture.h"
#include "trainer/pictures/mask_report.h"
#include "trainer/pictures/mask_svg.h"
#include "trainer/pictures/mask_view.h"

namespace tessera {
namespace {

constexpr int64_t kMostPictures = 4;

MaskViewOptions geometry_of(const MaskCommandOptions& options) {
  MaskViewOptions geometry;
  if (options.block) {
    const std::vector<int64_t> sizes = integers_of(*options.block, "--block");
    TORCH_CHECK(sizes.size() <= 2, "--block: got ", sizes.size(),
                " integers, expected one size, or q,kv");
    geometry.block = {.q = sizes.front(), .kv = sizes.back()};
  }
  if (options.q_offset) geometry.q_offset = integer_of(*options.q_offset, "--q-offset");
  if (options.kv_offset) geometry.kv_offset = integer_of(*options.kv_offset, "--kv-offset");
  if (options.q_tokens) geometry.num_queries = integer_of(*options.q_tokens, "--q-tokens");
  return geometry;
}

MaskLayout layout_of(const MaskCommandOptions& options) {
  MaskLayout layout = read_layout(options.layout);
  if (options.row) {
    const int64_t row = integer_of(*options.row, "--row");
    const auto last_row = static_cast<int64_t>(layout.rows.size()) - 1;
    TORCH_CHECK(row >= 0 && row <= last_row, "--row: got ", row, ", expected 0 to ", last_row);
    layout.rows = {layout.rows[row]};
  }
  TORCH_CHECK(!options.svg || layout.rows.size() == 1, "--svg: got a layout of ",
              layout.rows.size(), " rows, expected --row to choose one");
  return layout;
}

// Errors of the view are UsageErrors: whatever is wrong up to here stands on the command line.
MaskView view_of(const MaskCommandOptions& options) {
  try {
    return make_mask_view(options.rule, layout_of(options), geometry_of(options));
  } catch (const c10::Error& error) {
    throw UsageError(error.what_without_backtrace());
  }
}

void print_pictures(const MaskView& view) {
  const Console console = console_of(STDOUT_FILENO);
  const PictureOptions options{.columns = console.columns,
                               .color = console.is_terminal && !wants_no_color()};
  const int64_t num_rows = view.mask.shape().batch;
  for (int64_t row = 0; row < std::min(num_rows, kMostPictures); ++row) {
    if (num_rows > 1) std::cout << "row " << row << "\n";
    std::cout << mask_picture(view, row, options);
  }
  if (num_rows > kMostPictures) {
    std::cout << "and " << num_rows - kMostPictures << " more rows: --row shows one of them\n";
  }
}

}  // namespace

int mask_command(const MaskCommandOptions& options) {
  const MaskView view = view_of(options);
  if (documents_leak(view)) {
    std::cerr << "tessera: warning: the rule lets documents see each other; \"& document\" keeps "
                 "them apart\n";
  }
  if (options.svg) write_mask_svg(*options.svg, view, 0);
  if (options.json) {
    std::cout << mask_json(view, {.estimate = options.estimate});
    return kExitOk;
  }
  std::cout << mask_summary(view);
  print_pictures(view);
  if (options.estimate) std::cout << memory_text(view);
  if (options.svg) std::cout << "drawn in " << *options.svg << "\n";
  return kExitOk;
}

}  // namespace tessera
