// `tessera mask`: shows a mask as a picture, JSON or an SVG file (trainer/pictures/mask_view.h).
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

// Numbers are texts here: the command reads them, and names the flag in its errors.
struct MaskCommandOptions {
  std::string rule;  // in the notation of docs/masks.md
  LayoutFlags layout{};
  std::optional<std::string> block{};     // tile size in tokens: one number, or q,kv
  std::optional<std::string> q_tokens{};  // queries, MaskViewOptions::num_queries
  std::optional<std::string> q_offset{};
  std::optional<std::string> kv_offset{};
  std::optional<std::string> row{};  // show only this row of the batch
  std::optional<std::string> svg{};  // a file
  bool json = false;                 // instead of the picture
  bool estimate = false;             // adds what forms of the mask take in memory
};

void add_row_options(CommandLine& line, MaskCommandOptions& options) {
  LayoutFlags& flags = options.layout;
  OptionGroup row = line.add_group("Row", "what the tokens of a row are");
  row.add_option("--tokens", &flags.tokens, "length of the row", {.value = "N"});
  row.add_option("--documents", &flags.documents,
                 "lengths of the documents in order, such as 700,1500; what is left is padding, a "
                 "document of its own without valid keys; without any the row is one document",
                 {.value = "N,..."});
  row.add_option("--positions", &flags.positions,
                 "positions of the tokens, such as 0,1,2,0,1: a document starts where one does "
                 "not follow the one before",
                 {.value = "N,..."});
  row.add_option("--layout", &flags.layout,
                 "JSON with tokens, documents, positions, images, prefix, window, chunk, or rows "
                 "of a batch; see docs/masks.md",
                 {.value = "FILE"});
  row.add_option("--row", &options.row, "only this row of the batch, from 0", {.value = "N"});
}

void add_additions(CommandLine& line, LayoutFlags& flags) {
  OptionGroup more = line.add_group("Additions", "what extends the rule");
  more.add_option("--window", &flags.window, "adds `& window(left=L)` or (left=L, right=R)",
                  {.value = "L[,R]"});
  more.add_option("--chunk", &flags.chunk,
                  "adds `& per_document(chunked(size=C))`: chunks count from the start of each "
                  "document",
                  {.value = "C"});
  more.add_option("--images", &flags.images,
                  "tokens that all see each other, each image inside one document; `causal` "
                  "becomes `(causal | block_ids)` unless the rule names block_ids",
                  {.value = "START:LENGTH,..."});
  more.add_option("--prefix", &flags.prefix,
                  "each document sees its first N tokens: `causal` becomes `(causal | "
                  "per_document(prefix_lm))` unless the rule names prefix_lm",
                  {.value = "N"});
}

void add_options(CommandLine& line, MaskCommandOptions& options) {
  line.add_option("rule", &options.rule, "such as \"causal & document & window(left=127)\"",
                  {.required = true});
  add_row_options(line, options);
  add_additions(line, options.layout);
  OptionGroup part = line.add_group("Mask", "which part of the row, in which tiles");
  part.add_option("--block", &options.block, "tokens of a tile; 128", {.value = "N|Q,KV"});
  part.add_option("--q-tokens", &options.q_tokens, "queries; all to the end", {.value = "N"});
  part.add_option("--q-offset", &options.q_offset, "token of the first query; 0", {.value = "N"});
  part.add_option("--kv-offset", &options.kv_offset, "token of the first key; 0", {.value = "N"});
  OptionGroup output = line.add_group("Output", "a picture, if not --json");
  output.add_flag("--json", &options.json, "one JSON object instead of the picture");
  output.add_option("--svg", &options.svg, "draw the mask into this file", {.value = "FILE"});
  output.add_flag("--estimate", &options.estimate,
                  "memory of the mask as dense bool, as bias and as block mask");
}

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

int run(const MaskCommandOptions& options) {
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

}  // namespace

Command mask_command() {
  return make_command("mask", "show, measure or draw an attention mask", add_options, run);
}

}  // namespace tessera
