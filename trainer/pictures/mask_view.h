// A mask as `tessera mask` shows it: the rule with what the layout adds to it, built for the
// layout's rows.
//
//   const MaskLayout layout = read_layout({.documents = "700,1500"});
//   const MaskView view = make_mask_view("causal & document", layout, {});
//   std::cout << mask_picture(view, /*row=*/0, {});
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_mod.h"
#include "trainer/pictures/mask_layout.h"

namespace tessera {

// Which part of the rows the mask is of, and its tiles, in tokens. Queries and keys are those from
// their offset on: all of them, or num_queries queries (a cache's new tokens).
struct MaskViewOptions {
  BlockSize block{};
  int64_t q_offset = 0;
  int64_t kv_offset = 0;
  std::optional<int64_t> num_queries{};
};

struct MaskView {
  MaskLayout layout;
  MaskMod rule;        // as extended; counts tokens from the start of a row
  BlockMask mask;      // of the part that queries and keys name; a batch row for each layout row
  TokenRange queries;  // the tokens of a row that the mask's queries are
  TokenRange keys;     // the tokens of a row that the mask's keys are
};

// `rule` with what the layout's shorthands add:
//
//   window   (rule) & window(left=L), or (left=L, right=R)
//   chunk    (rule) & per_document(chunked(size=C))
//   images   causal -> (causal | block_ids)
//   prefix   causal -> (causal | per_document(prefix_lm))
//
// A rule that names block_ids or prefix_lm itself keeps its causal. Throws c10::Error when there is
// no causal to extend, or one inside the parentheses of a name such as per_document() or offset(),
// which count tokens from elsewhere.
std::string extended_rule(const std::string& rule, const MaskLayout& layout);

// Builds the mask of `rule`, extended, for the layout's rows. Throws c10::Error, for the rule with
// its column, for the geometry with its flag (--block is 1 to 16384; offsets and queries lie in the
// row).
MaskView make_mask_view(const std::string& rule, const MaskLayout& layout,
                        const MaskViewOptions& geometry);

// Whether a query may attend to a key of another document, with the padding as a document of its
// own. False where no row has several documents.
bool documents_leak(const MaskView& view);

}  // namespace tessera
