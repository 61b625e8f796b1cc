#include "attention/mask_parser.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <cctype>
#include <string_view>

namespace tessera {

namespace {

struct RuleName {
  std::string_view name;
  // Makes the leaf, or returns nothing when the context lacks what it needs.
  std::optional<MaskMod> (*make)(const MaskContext&);
  std::string_view needs;
};

constexpr RuleName kRuleNames[] = {
    {"causal", [](const MaskContext&) -> std::optional<MaskMod> { return causal(); }, ""},
    {"full", [](const MaskContext&) -> std::optional<MaskMod> { return full(); }, ""},
    {"none", [](const MaskContext&) -> std::optional<MaskMod> { return none(); }, ""},
    {"document",
     [](const MaskContext& context) -> std::optional<MaskMod> {
       if (!context.document_ids_BT.defined()) return std::nullopt;
       return document(context.document_ids_BT);
     },
     "document ids"},
};

std::string all_names() {
  std::vector<std::string_view> names;
  for (const RuleName& rule : kRuleNames) names.push_back(rule.name);
  return c10::Join(", ", names);
}

// Recursive descent over the grammar of mask_parser.h. Without a context leaves are not made: only
// the text counts.
class Parser {
 public:
  Parser(const std::string& text, const MaskContext* context) : text_(text), context_(context) {}

  MaskMod parse() {
    const MaskMod rule = parse_rule();
    skip_spaces();
    if (at_ < text_.size()) fail("expected \"&\", \"|\" or the end");
    return rule;
  }

 private:
  // Bounds the stack that a hostile text can use.
  static constexpr int kMaxDepth = 200;

  MaskMod parse_rule() {
    std::vector<MaskMod> terms{parse_term()};
    while (accept('|')) terms.push_back(parse_term());
    return or_masks(terms);
  }

  MaskMod parse_term() {
    std::vector<MaskMod> factors{parse_factor()};
    while (accept('&')) factors.push_back(parse_factor());
    return and_masks(factors);
  }

  MaskMod parse_factor() {
    if (++depth_ > kMaxDepth) fail("expected at most 200 nested \"~\" and \"(\"");
    const MaskMod rule = parse_nested_or_leaf();
    --depth_;
    return rule;
  }

  MaskMod parse_nested_or_leaf() {
    if (accept('~')) return not_mask(parse_factor());
    if (accept('(')) {
      const MaskMod rule = parse_rule();
      if (!accept(')')) fail("expected \"&\", \"|\" or \")\"");
      return rule;
    }
    return parse_leaf();
  }

  MaskMod parse_leaf() {
    skip_spaces();
    const size_t begin = at_;
    const std::string_view name = peek_word();
    if (name.empty()) fail("expected \"~\", \"(\" or one of: " + all_names());
    for (const RuleName& rule : kRuleNames) {
      if (rule.name != name) continue;
      at_ += name.size();
      if (accept('(') && !accept(')')) {
        fail("expected \")\", as \"" + std::string(name) + "\" takes no arguments");
      }
      if (context_ == nullptr) return full();
      const std::optional<MaskMod> leaf = rule.make(*context_);
      TORCH_CHECK(leaf, where(begin), "\"", name, "\" needs ", rule.needs,
                  ", which this context does not have");
      return *leaf;
    }
    fail("expected one of: " + all_names());
  }

  void skip_spaces() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }

  bool accept(char symbol) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != symbol) return false;
    ++at_;
    return true;
  }

  std::string_view peek_word() const {
    size_t end = at_;
    const auto is_word = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; };
    while (end < text_.size() && is_word(text_[end])) ++end;
    return std::string_view(text_).substr(at_, end - at_);
  }

  std::string where(size_t position) const {
    return "mask rule \"" + text_ + "\", column " + std::to_string(position + 1) + ": ";
  }

  [[noreturn]] void fail(const std::string& expected) {
    skip_spaces();
    std::string found = "the end";
    if (at_ < text_.size()) {
      const std::string_view word = peek_word();
      found = '"' + (word.empty() ? std::string(1, text_[at_]) : std::string(word)) + '"';
    }
    TORCH_CHECK(false, where(at_), "found ", found, ", ", expected);
  }

  const std::string& text_;
  const MaskContext* context_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

MaskMod parse_mask(const std::string& text, const MaskContext& context) {
  return Parser(text, &context).parse();
}

void check_mask_syntax(const std::string& text) { Parser(text, nullptr).parse(); }

}  // namespace tessera
