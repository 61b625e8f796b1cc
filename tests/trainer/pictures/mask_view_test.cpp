#include "trainer/pictures/mask_view.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/errors.h"

namespace tessera {
namespace {

// Layouts with all additions.
const MaskLayout kAll{.num_tokens = 20,
                      .rows = {{.documents = {20}, .images = {{{2, 5}}}, .prefix = 2}},
                      .window = Window{.left = 5, .right = 1},
                      .chunk = 4};

MaskLayout plain(int64_t num_tokens) {
  return {.num_tokens = num_tokens, .rows = {{.documents = {num_tokens}}}};
}

MaskLayout with_images() {
  return {.num_tokens = 20, .rows = {{.documents = {20}, .images = {{{2, 5}}}}}};
}

MaskLayout with_prefix() { return {.num_tokens = 20, .rows = {{.documents = {20}, .prefix = 2}}}; }

TEST(ExtendedRule, EachAdditionIsTheOneThatHelpTells) {
  EXPECT_EQ(extended_rule("causal", plain(9)), "causal");
  MaskLayout layout = plain(9);
  layout.window = Window{.left = 5};
  EXPECT_EQ(extended_rule("causal | full", layout), "(causal | full) & window(left=5)");
  layout.window->right = 0;
  EXPECT_EQ(extended_rule("causal", layout), "(causal) & window(left=5, right=0)");
  layout.window.reset();
  layout.chunk = 4;
  EXPECT_EQ(extended_rule("causal", layout), "(causal) & per_document(chunked(size=4))");
  EXPECT_EQ(extended_rule("causal & document", with_images()), "(causal | block_ids) & document");
  EXPECT_EQ(extended_rule("~causal|causal", with_prefix()),
            "~(causal | per_document(prefix_lm))|(causal | per_document(prefix_lm))");
  EXPECT_EQ(extended_rule("document & causal", kAll),
            "(document & (causal | block_ids | per_document(prefix_lm))) & window(left=5, right=1) "
            "& per_document(chunked(size=4))");
}

TEST(ExtendedRule, ARuleThatNamesTheLeafItselfIsLeftAlone) {
  EXPECT_EQ(extended_rule("full | block_ids", with_images()), "full | block_ids");
  EXPECT_EQ(extended_rule("per_document(prefix_lm)", with_prefix()), "per_document(prefix_lm)");
  MaskLayout both = with_images();
  both.rows[0].prefix = 1;
  EXPECT_EQ(extended_rule("causal | block_ids", both),
            "(causal | per_document(prefix_lm)) | block_ids");
}

TEST(ExtendedRule, WithoutACausalToExtendThereIsAnError) {
  EXPECT_ERROR(extended_rule("full", with_images()), "images: got the rule \"full\"", "block_ids");
  EXPECT_ERROR(extended_rule("document", with_prefix()), "prefix", "prefix_lm");
  EXPECT_ERROR(extended_rule("causal & per_document(causal)", with_images()), "images", "column 23",
               "outside");
  EXPECT_ERROR(extended_rule("offset((causal), q=1)", with_prefix()), "prefix", "column 9");
}

TEST(MakeMaskView, TheRuleKeepsItsColumnsInErrors) {
  MaskLayout layout = plain(9);
  layout.window = Window{.left = 5};
  EXPECT_ERROR(make_mask_view("causal & documnt", layout, {}), "column 10", "documnt");
  EXPECT_ERROR(make_mask_view("", layout, {}), "column 1", "the end");
  EXPECT_ERROR(make_mask_view("causal)", layout, {}), "column 7");
  EXPECT_ERROR(make_mask_view("causal | block_ids", layout, {}), "block_ids", "block ids");
  EXPECT_ERROR(make_mask_view("prefix_lm", layout, {}), "prefix_lm", "prefix lengths");
}

TEST(MakeMaskView, GeometryOutOfRangeIsRefused) {
  const MaskLayout layout = plain(9);
  const auto view = [&](const MaskViewOptions& geometry) {
    return make_mask_view("causal", layout, geometry);
  };
  EXPECT_ERROR(view({.block = {0, 4}}), "--block: got 0, expected 1 to 16384");
  EXPECT_ERROR(view({.block = {4, 16385}}), "--block: got 16385");
  EXPECT_ERROR(view({.q_offset = 9}), "--q-offset: got 9, expected 0 to 8");
  EXPECT_ERROR(view({.kv_offset = -1}), "--kv-offset: got -1, expected 0 to 8");
  EXPECT_ERROR(view({.q_offset = 5, .num_queries = 5}), "--q-tokens: got 5, expected 1 to 4");
  EXPECT_ERROR(view({.num_queries = 0}), "--q-tokens: got 0");
}

TEST(MakeMaskView, OffsetsShowAPartOfTheSameMask) {
  const MaskLayout layout{.num_tokens = 40, .rows = {{.documents = {13, 20}}}};
  const MaskView whole = make_mask_view("causal & document", layout, {.block = {8, 8}});
  const MaskView part =
      make_mask_view("causal & document", layout,
                     {.block = {8, 8}, .q_offset = 11, .kv_offset = 3, .num_queries = 17});
  EXPECT_EQ(part.queries, (TokenRange{11, 28}));
  EXPECT_EQ(part.keys, (TokenRange{3, 40}));
  ASSERT_EQ(part.mask.shape().q_len, 17);
  ASSERT_EQ(part.mask.shape().kv_len, 37);
  for (int64_t q = 11; q < 28; ++q) {
    for (int64_t kv = 3; kv < 40; ++kv) {
      ASSERT_EQ(part.mask.allows(0, 0, q - 11, kv - 3), whole.mask.allows(0, 0, q, kv));
    }
  }
}

TEST(MakeMaskView, PaddingIsADocumentOfItsOwnWithoutValidKeys) {
  const MaskLayout layout{.num_tokens = 6, .rows = {{.documents = {4}}}};
  const MaskView documents = make_mask_view("document", layout, {});
  EXPECT_FALSE(documents.mask.allows(0, 0, 5, 3));
  EXPECT_FALSE(documents.mask.allows(0, 0, 3, 5));
  EXPECT_TRUE(documents.mask.allows(0, 0, 5, 4));
  const MaskView valid = make_mask_view("document & key_padding", layout, {});
  EXPECT_FALSE(valid.mask.allows(0, 0, 5, 4));
  EXPECT_EQ(valid.mask.num_pairs(), 16);
}

TEST(DocumentsLeak, OnlyWhereARuleLetsThem) {
  const MaskLayout two{.num_tokens = 8, .rows = {{.documents = {3, 5}}}};
  const MaskLayout padded{.num_tokens = 8, .rows = {{.documents = {5}}}};
  const auto leaks = [](const char* rule, const MaskLayout& layout) {
    return documents_leak(make_mask_view(rule, layout, {}));
  };
  EXPECT_TRUE(leaks("causal", two));
  EXPECT_FALSE(leaks("causal", plain(8)));
  EXPECT_FALSE(leaks("causal", padded)) << "padding is nobody's document";
  EXPECT_FALSE(leaks("causal & document", two));
  EXPECT_FALSE(leaks("per_document(full)", two));
  EXPECT_TRUE(leaks("causal & document | full", two));
  EXPECT_FALSE(leaks("causal & window(left=0)", two)) << "no document named, and yet none seen";
}

// A random row: documents, images inside them, a prefix.
LayoutRow random_row(std::mt19937& rng, int64_t num_tokens) {
  const auto below = [&](int64_t n) {
    return std::uniform_int_distribution<int64_t>(0, n - 1)(rng);
  };
  LayoutRow row{.prefix = below(5)};
  row.images.emplace();
  int64_t begin = 0;
  while (begin < num_tokens && (begin == 0 || below(6) > 0)) {
    const int64_t length = 1 + below(std::min<int64_t>(num_tokens - begin, 14));
    row.documents.push_back(length);
    const int64_t start = begin + below(length);
    if (below(2) == 0) row.images->push_back({start, start + 1 + below(begin + length - start)});
    begin += length;
  }
  return row;
}

// Whether query q may see key kv by what the additions mean, pair by pair.
bool allows(const MaskLayout& layout, const LayoutRow& row, int64_t q, int64_t kv) {
  for (const DocumentSpan& span : document_spans(row, layout.num_tokens)) {
    const auto inside = [&](int64_t token) {
      return token >= span.tokens.begin && token < span.tokens.end;
    };
    if (!inside(q)) continue;
    const int64_t start = span.tokens.begin;
    bool seen = kv <= q || kv - start < *row.prefix;
    for (const TokenRange& image : *row.images) {
      const auto in_image = [&](int64_t token) {
        return token >= image.begin && token < image.end;
      };
      seen = seen || (in_image(q) && in_image(kv));
    }
    const bool in_window = kv >= q - *layout.window->left;
    const bool same_chunk = (q - start) / *layout.chunk == (kv - start) / *layout.chunk;
    return inside(kv) && seen && in_window && same_chunk;
  }
  return false;
}

TEST(MakeMaskView, AdditionsMeanWhatTheySayOnRandomBatches) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    const auto below = [&](int64_t n) {
      return std::uniform_int_distribution<int64_t>(0, n - 1)(rng);
    };
    MaskLayout layout{.num_tokens = 1 + below(40)};
    for (int64_t rows = 1 + below(3); rows > 0; --rows) {
      layout.rows.push_back(random_row(rng, layout.num_tokens));
    }
    layout.window = Window{.left = below(20)};
    layout.chunk = 1 + below(20);
    const MaskView view =
        make_mask_view("causal & document", layout, {.block = {1 + below(9), 1 + below(9)}});
    EXPECT_FALSE(documents_leak(view));
    for (size_t b = 0; b < layout.rows.size(); ++b) {
      for (int64_t q = 0; q < layout.num_tokens; ++q) {
        for (int64_t kv = 0; kv < layout.num_tokens; ++kv) {
          ASSERT_EQ(view.mask.allows(static_cast<int64_t>(b), 0, q, kv),
                    allows(layout, layout.rows[b], q, kv))
              << "row " << b << ", query " << q << ", key " << kv;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera
