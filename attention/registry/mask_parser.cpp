#include "attention/registry/mask_parser.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <cctype>
#include <charconv>
#include <string_view>

#include "attention/registry/mask_registry.h"

namespace tessera {

namespace {

// Recursive descent over the grammar of mask_parser.h. Without a context, leaves that read it are
// not made: only their text counts.
class Parser {
 public:
  Parser(const std::string& text, const MaskContext* context, const MaskRegistry& registry)
      : text_(text), context_(context), registry_(registry) {}

  MaskMod parse() {
    MaskMod rule = parse_rule();
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
    return make(at_, [&] { return or_masks(terms); });
  }

  MaskMod parse_term() {
    std::vector<MaskMod> factors{parse_factor()};
    while (accept('&')) factors.push_back(parse_factor());
    return make(at_, [&] { return and_masks(factors); });
  }

  MaskMod parse_factor() {
    if (++depth_ > kMaxDepth) fail("expected at most 200 nested \"~\" and \"(\"");
    MaskMod rule = parse_nested_or_leaf();
    --depth_;
    return rule;
  }

  MaskMod parse_nested_or_leaf() {
    if (accept('~')) return not_mask(parse_factor());
    if (accept('(')) {
      MaskMod rule = parse_rule();
      if (!accept(')')) fail("expected \"&\", \"|\" or \")\"");
      return rule;
    }
    return parse_leaf();
  }

  MaskMod parse_leaf() {
    skip_spaces();
    const size_t begin = at_;
    const std::string_view name = peek_word();
    const MaskRule* rule = registry_.find_rule(std::string(name));
    if (rule == nullptr) {
      fail((name.empty() ? "expected \"~\", \"(\" or one of: " : "expected one of: ") +
           c10::Join(", ", registry_.rule_names()));
    }
    at_ += name.size();
    const MaskArguments arguments = parse_arguments(*rule);
    if (rule->reads_context && context_ == nullptr) return full();
    return make(begin, [&] { return rule->make(arguments, context_ ? *context_ : MaskContext{}); });
  }

  MaskArguments parse_arguments(const MaskRule& rule) {
    MaskArguments arguments;
    std::vector<std::optional<int64_t>> values(rule.parameters.size());
    const bool parentheses = accept('(');
    if (rule.takes_rule) {
      if (!parentheses) fail("expected \"(\" and a rule after \"" + rule.name + "\"");
      arguments.rules.push_back(parse_rule());
    }
    if (parentheses && !accept(')')) {
      if (rule.takes_rule && !accept(',')) fail("expected \"&\", \"|\", \",\" or \")\"");
      size_t next = 0;
      do {
        next = parse_value(rule, next, values);
      } while (accept(','));
      if (!accept(')')) fail("expected \",\" or \")\"");
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const MaskParameter& parameter = rule.parameters[i];
      if (values[i]) {
        arguments.values.emplace_back(parameter.name, *values[i]);
      } else if (parameter.required) {
        fail("expected \"" + rule.name + "\" to have a value for \"" + parameter.name + "\"");
      }
    }
    return arguments;
  }

  // Reads one `[name =] integer` and returns the position after it, where a value without a name
  // would go.
  size_t parse_value(const MaskRule& rule, size_t position,
                     std::vector<std::optional<int64_t>>& values) {
    skip_spaces();
    if (rule.parameters.empty()) fail("expected \")\", as \"" + rule.name + "\" takes no integers");
    const unsigned char first = at_ < text_.size() ? text_[at_] : 0;
    if (std::isalpha(first) != 0 || first == '_') {
      const std::string name(peek_word());
      position = 0;
      while (position < values.size() && rule.parameters[position].name != name) ++position;
      if (position == values.size()) fail("expected " + parameter_names(rule));
      at_ += name.size();
      if (!accept('=')) fail("expected \"=\"");
    }
    if (position >= values.size())
      fail("expected \")\": \"" + rule.name + "\" has no more parameters");
    if (values[position])
      fail("expected no second value for \"" + rule.parameters[position].name + "\"");
    values[position] = parse_integer();
    return position + 1;
  }

  int64_t parse_integer() {
    skip_spaces();
    int64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc()) fail("expected an integer");
    at_ += end - begin;
    return value;
  }

  static std::string parameter_names(const MaskRule& rule) {
    std::vector<std::string> names;
    for (const MaskParameter& parameter : rule.parameters) names.push_back(parameter.name);
    return "an integer or one of: " + c10::Join(", ", names);
  }

  // Calls a factory, and adds the column of its name to a c10::Error that it throws.
  template <typename Factory>
  MaskMod make(size_t begin, Factory factory) const {
    try {
      return factory();
    } catch (const c10::Error& error) {
      C10_THROW_ERROR(Error, where(begin) + error.what_without_backtrace());
    }
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
  const MaskRegistry& registry_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

MaskMod parse_mask(const std::string& text, const MaskContext& context,
                   const MaskRegistry& registry) {
  return Parser(text, &context, registry).parse();
}

MaskMod parse_mask(const std::string& text, const MaskContext& context) {
  return parse_mask(text, context, MaskRegistry::with_builtins());
}

void check_mask_syntax(const std::string& text, const MaskRegistry& registry) {
  Parser(text, nullptr, registry).parse();
}

void check_mask_syntax(const std::string& text) {
  check_mask_syntax(text, MaskRegistry::with_builtins());
}

}  // namespace tessera
