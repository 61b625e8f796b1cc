#include "trainer/pictures/mask_view.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "attention/registry/mask_parser.h"

namespace tessera {
namespace {

// A bit tile of this size is 32 MiB.
constexpr int64_t kMaxBlock = 16384;

struct Word {
  size_t begin = 0;
  std::string text{};
  bool in_call = false;  // inside the parentheses of a name
};

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

std::vector<Word> words_of(const std::string& rule) {
  std::vector<Word> words;
  std::vector<bool> calls;  // for each open parenthesis, whether it follows a name
  bool after_word = false;
  for (size_t at = 0; at < rule.size(); ++at) {
    if (is_word_character(rule[at])) {
      const size_t begin = at;
      while (at + 1 < rule.size() && is_word_character(rule[at + 1])) ++at;
      const bool in_call = std::find(calls.begin(), calls.end(), true) != calls.end();
      words.push_back({begin, rule.substr(begin, at + 1 - begin), in_call});
      after_word = true;
    } else if (rule[at] != ' ') {
      if (rule[at] == '(') calls.push_back(after_word);
      if (rule[at] == ')' && !calls.empty()) calls.pop_back();
      after_word = false;
    }
  }
  return words;
}

bool names(const std::vector<Word>& words, const std::string& name) {
  return std::any_of(words.begin(), words.end(), [&](const Word& w) { return w.text == name; });
}

// The rule with each `causal` as (causal | ... ), where `alternatives` is the rest: " | block_ids".
std::string with_alternatives(const std::string& rule, const std::vector<Word>& words,
                              const std::string& alternatives) {
  std::string extended;
  size_t copied = 0;
  for (const Word& word : words) {
    if (word.text != "causal") continue;
    extended += rule.substr(copied, word.begin - copied) + "(causal" + alternatives + ")";
    copied = word.begin + word.text.size();
  }
  return extended + rule.substr(copied);
}

void check_extends(const std::string& rule, const std::vector<Word>& words, const char* field,
                   const char* leaf) {
  TORCH_CHECK(names(words, "causal"), field, ": got the rule \"", rule, "\", expected one with ",
              leaf, ", or with causal to extend");
  for (const Word& word : words) {
    TORCH_CHECK(word.text != "causal" || !word.in_call, field, ": got the rule \"", rule,
                "\" with causal inside parentheses of a name (column ", word.begin + 1,
                "), expected it outside, or ", leaf, " where it belongs");
  }
}

at::Tensor document_ids(const MaskLayout& layout) {
  const auto num_rows = static_cast<int64_t>(layout.rows.size());
  at::Tensor ids_BT = at::empty({num_rows, layout.num_tokens}, at::kLong);
  auto* ids = ids_BT.mutable_data_ptr<int64_t>();
  for (const LayoutRow& row : layout.rows) {
    int64_t id = 0;
    for (const DocumentSpan& span : document_spans(row, layout.num_tokens)) {
      std::fill(ids + span.tokens.begin, ids + span.tokens.end, id++);
    }
    ids += layout.num_tokens;
  }
  return ids_BT;
}

at::Tensor valid_tokens(const MaskLayout& layout) {
  const auto num_rows = static_cast<int64_t>(layout.rows.size());
  at::Tensor valid_BT = at::full({num_rows, layout.num_tokens}, true, at::kBool);
  bool* valid = valid_BT.mutable_data_ptr<bool>();
  for (const LayoutRow& row : layout.rows) {
    const DocumentSpan last = document_spans(row, layout.num_tokens).back();
    if (last.padding) std::fill(valid + last.tokens.begin, valid + last.tokens.end, false);
    valid += layout.num_tokens;
  }
  return valid_BT;
}

at::Tensor image_ids(const MaskLayout& layout) {
  const auto num_rows = static_cast<int64_t>(layout.rows.size());
  at::Tensor ids_BT = at::full({num_rows, layout.num_tokens}, -1, at::kLong);
  auto* ids = ids_BT.mutable_data_ptr<int64_t>();
  for (const LayoutRow& row : layout.rows) {
    int64_t id = 0;
    for (const TokenRange& image : row.images.value_or(std::vector<TokenRange>{})) {
      std::fill(ids + image.begin, ids + image.end, id++);
    }
    ids += layout.num_tokens;
  }
  return ids_BT;
}

at::Tensor prefix_lengths(const MaskLayout& layout) {
  at::Tensor lengths_B = at::empty({static_cast<int64_t>(layout.rows.size())}, at::kLong);
  auto* length = lengths_B.mutable_data_ptr<int64_t>();
  for (const LayoutRow& row : layout.rows) *length++ = row.prefix.value_or(0);
  return lengths_B;
}

MaskContext mask_context(const MaskLayout& layout) {
  MaskContext context{.document_ids_BT = document_ids(layout), .valid_BT = valid_tokens(layout)};
  if (layout.has_images()) context.block_ids_BT = image_ids(layout);
  if (layout.has_prefix()) context.prefix_lengths_B = prefix_lengths(layout);
  return context;
}

void check_range(const char* flag, int64_t value, int64_t low, int64_t high) {
  TORCH_CHECK(value >= low && value <= high, flag, ": got ", value, ", expected ", low, " to ",
              high);
}

MaskShape mask_shape(const MaskLayout& layout, const MaskViewOptions& geometry) {
  check_range("--block", geometry.block.q, 1, kMaxBlock);
  check_range("--block", geometry.block.kv, 1, kMaxBlock);
  check_range("--q-offset", geometry.q_offset, 0, layout.num_tokens - 1);
  check_range("--kv-offset", geometry.kv_offset, 0, layout.num_tokens - 1);
  const int64_t most_queries = layout.num_tokens - geometry.q_offset;
  const int64_t num_queries = geometry.num_queries.value_or(most_queries);
  check_range("--q-tokens", num_queries, 1, most_queries);
  return {.batch = static_cast<int64_t>(layout.rows.size()),
          .q_len = num_queries,
          .kv_len = layout.num_tokens - geometry.kv_offset,
          .block = geometry.block};
}

}  // namespace

std::string extended_rule(const std::string& rule, const MaskLayout& layout) {
  const std::vector<Word> words = words_of(rule);
  std::string alternatives;
  if (layout.has_images() && !names(words, "block_ids")) {
    check_extends(rule, words, "images", "block_ids");
    alternatives += " | block_ids";
  }
  if (layout.has_prefix() && !names(words, "prefix_lm")) {
    check_extends(rule, words, "prefix", "prefix_lm");
    alternatives += " | per_document(prefix_lm)";
  }
  std::string extended = alternatives.empty() ? rule : with_alternatives(rule, words, alternatives);
  if (!layout.window && !layout.chunk) return extended;
  extended = "(" + extended + ")";
  if (layout.window) {
    extended += " & window(left=" + std::to_string(*layout.window->left);
    if (layout.window->right) extended += ", right=" + std::to_string(*layout.window->right);
    extended += ")";
  }
  if (layout.chunk)
    extended += " & per_document(chunked(size=" + std::to_string(*layout.chunk) + "))";
  return extended;
}

MaskView make_mask_view(const std::string& rule_text, const MaskLayout& layout,
                        const MaskViewOptions& geometry) {
  const MaskShape shape = mask_shape(layout, geometry);
  const MaskContext context = mask_context(layout);
  parse_mask(rule_text, context);  // its errors count columns in the text as given
  const MaskMod rule = parse_mask(extended_rule(rule_text, layout), context);
  const bool at_start = geometry.q_offset == 0 && geometry.kv_offset == 0;
  const MaskMod placed = at_start ? rule : offset(rule, geometry.q_offset, geometry.kv_offset);
  return {.layout = layout,
          .rule = rule,
          .mask = create_block_mask(placed, shape),
          .queries = {geometry.q_offset, geometry.q_offset + shape.q_len},
          .keys = {geometry.kv_offset, layout.num_tokens}};
}

bool documents_leak(const MaskView& view) {
  const bool several = std::any_of(view.layout.rows.begin(), view.layout.rows.end(),
                                   [](const LayoutRow& row) { return row.documents.size() > 1; });
  if (!several) return false;
  const MaskMod across = view.rule & ~document(document_ids(view.layout));
  const MaskMod placed = offset(across, view.queries.begin, view.keys.begin);
  return create_block_mask(placed, view.mask.shape()).num_pairs() > 0;
}

}  // namespace tessera
