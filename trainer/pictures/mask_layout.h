// What the rows that a mask is shown for hold: documents, padding, images, prefixes. For `tessera
// mask`, from its flags or from a JSON file:
//
//   {"tokens": 4096, "documents": [700, 1500], "images": [[16, 64]], "prefix": 8, "window": 127,
//    "chunk": 512}
//   {"rows": [{"documents": [700, 1500]}, {"positions": [0, 1, 2, 0, 1], "prefix": 2}]}
//
//   tokens     length of every row; without it the longest row's
//   documents  lengths of the documents in order; what is left of the row is padding
//   positions  instead of documents: one starts where a position does not follow the one before
//   images     [start, length] each, inside one document: tokens that all see each other
//   prefix     the first tokens of each document, which all of it sees
//   window     keys to the left of the query, or [left, right]
//   chunk      tokens of a chunk, counted from the start of each document
//   rows       rows of a batch, each with documents, positions, images or prefix of its own
//
// Lengths are in tokens. A row without documents and positions is one document. Whatever does not
// fit throws c10::Error that names the flag or key, what was got and what was expected.
//
//   const MaskLayout layout = read_layout({.tokens = "4096", .documents = "700,1500"});
//   document_spans(layout.rows[0], layout.num_tokens);   // [0, 700), [700, 2200), padding to 4096
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention/masks/mask_mod.h"
#include "trainer/pictures/layout_flags.h"

namespace tessera {

// Rows may be no longer than this, at which their int64 ids alone take 1 GiB.
inline constexpr int64_t kMaxLayoutTokens = int64_t{1} << 27;

struct LayoutRow {
  std::vector<int64_t> documents{};  // lengths in order, each at least 1; the rest is padding

  // Ascending and disjoint, each inside one document.
  std::optional<std::vector<TokenRange>> images{};

  std::optional<int64_t> prefix{};  // tokens of each document
  bool operator==(const LayoutRow&) const = default;
};

struct MaskLayout {
  int64_t num_tokens = 0;
  std::vector<LayoutRow> rows{};  // at least one
  std::optional<Window> window{};
  std::optional<int64_t> chunk{};

  // Whether a row says images, or a prefix, be it an empty list or 0.
  bool has_images() const;
  bool has_prefix() const;

  bool operator==(const MaskLayout&) const = default;
};

// A document, or the padding at the end of a row.
struct DocumentSpan {
  TokenRange tokens{};
  bool padding = false;
  bool operator==(const DocumentSpan&) const = default;
};

// The documents of a row of num_tokens tokens and its padding, in order.
std::vector<DocumentSpan> document_spans(const LayoutRow& row, int64_t num_tokens);

// The layout that the flags, or the file of --layout, describe. --layout excludes --tokens,
// --documents and --positions. The other flags go with it unless the file says the same; images and
// prefix then hold for each of its rows.
MaskLayout read_layout(const LayoutFlags& flags);

// The integers of a text such as "700,1500" (integers_of), or its only one (integer_of). Blanks
// around a number are passed over. Both throw c10::Error in which `where` names the flag.
std::vector<int64_t> integers_of(const std::string& text, const std::string& where);
int64_t integer_of(const std::string& text, const std::string& where);

}  // namespace tessera
