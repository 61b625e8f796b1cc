#include "attention/registry/attention_choice.h"

#include <c10/util/Exception.h>

#include <cctype>
#include <charconv>

namespace tessera {

namespace {

class ChoiceParser {
 public:
  explicit ChoiceParser(const std::string& text) : text_(text) {}

  std::vector<AttentionChoice> parse() {
    std::vector<AttentionChoice> choices{parse_choice()};
    while (accept(',')) {
      AttentionChoice choice = parse_choice();
      for (const AttentionChoice& other : choices) {
        TORCH_CHECK(other.kind != choice.kind, "attention \"", text_, "\": got two choices for ",
                    choice.kind.empty() ? "every kind of layer" : "kind \"" + choice.kind + "\"",
                    ", expected one");
      }
      choices.push_back(std::move(choice));
    }
    skip_spaces();
    if (at_ < text_.size()) fail("\",\" or the end");
    return choices;
  }

 private:
  AttentionChoice parse_choice() {
    AttentionChoice choice{.name = parse_word("the name of a backend")};
    if (accept('=')) {
      choice.kind = std::move(choice.name);
      choice.name = parse_word("the name of a backend");
    }
    if (accept('(') && !accept(')')) {
      do {
        choice.args.push_back(parse_arg());
      } while (accept(','));
      if (!accept(')')) fail("\",\" or \")\"");
    }
    return choice;
  }

  std::pair<std::string, AttentionValue> parse_arg() {
    std::string name = parse_word("the name of an argument");
    if (!accept('=')) fail("\"=\"");
    return {std::move(name), parse_value()};
  }

  AttentionValue parse_value() {
    const std::string word =
        take([](char c) { return std::string_view(",()= \t").find(c) == npos; });
    if (word.empty()) fail("a value");
    if (word == "true" || word == "false") return word == "true";
    const char* const end = word.data() + word.size();
    int64_t integer = 0;
    if (const auto [stop, error] = std::from_chars(word.data(), end, integer);
        error == std::errc() && stop == end) {
      return integer;
    }
    double number = 0;
    if (const auto [stop, error] = std::from_chars(word.data(), end, number);
        error == std::errc() && stop == end) {
      return number;
    }
    return word;
  }

  std::string parse_word(const char* expected) {
    std::string word = take([](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
    if (word.empty()) fail(expected);
    return word;
  }

  template <typename Belongs>
  std::string take(Belongs belongs) {
    skip_spaces();
    const size_t begin = at_;
    while (at_ < text_.size() && belongs(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  bool accept(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  [[noreturn]] void fail(const char* expected) const {
    const std::string found = at_ < text_.size() ? "\"" + text_.substr(at_, 20) + "\"" : "the end";
    C10_THROW_ERROR(Error, c10::str("attention \"", text_, "\", column ", at_ + 1, ": got ", found,
                                    ", expected ", expected));
  }

  static constexpr size_t npos = std::string_view::npos;
  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<AttentionChoice> parse_attention_choices(const std::string& text) {
  return ChoiceParser(text).parse();
}

}  // namespace tessera
