// A mask as `tessera mask` shows it: the rule with what the layout adds to it, built for the
// layout's rows.
//
//   MaskView view = make_mask_view("causal & document", read_layout({.documents = "700,1500"}),
//   {}); std::cout << mask_picture(view, /*row=*/0, {});
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "attention/block_mask/block_mask.h"
#include "attention/masks/mask_mod.h"
#include "trainer/pictures/mask_layout.h"

namespace tessera {

// Which part of the rows the mask is of, and its tiles. Queries and keys are those from the offset
// on; num_queries: fewer of them (a cache's new tokens).
struct MaskViewOptions {
  BlockSize block{};
  int64_t q_offset = 0;
  int64_t kv_offset = 0;
  std::optional<int64_t> num_queries{};
};

struct MaskView {
  MaskLayout layout;
  MaskMod rule;  // in tokens of a row
  BlockMask mask;
  TokenRange queries;  // the mask's part of a row
  TokenRange keys;
};

// `rule` with what the layout's shorthands add:
//   window   (rule) & window(left=L)
//   chunk    (rule) & per_document(chunked(C))
//   images   causal -> (causal | block_ids)
//   prefix   causal -> (causal | per_document(prefix_lm))
// A rule that names block_ids or prefix_lm itself keeps its causal. Throws c10::Error when there is
// no causal to extend, or one inside per_document() or offset(), which count tokens from elsewhere.
std::string extended_rule(const std::string& rule, const MaskLayout& layout);

// Throws c10::Error: for the rule with its column, for the geometry with its flag.
MaskView make_mask_view(const std::string& rule, const MaskLayout& layout,
                        const MaskViewOptions& geometry);

// Whether some query may attend to a key of another document or of the padding.
bool documents_leak(const MaskView& view);

}  // namespace tessera
