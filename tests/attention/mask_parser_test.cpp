#include "attention/mask_parser.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/errors.h"

namespace tessera {
namespace {

class MaskParserTest : public ::testing::Test {
 protected:
  MaskMod parse(const std::string& text) const { return parse_mask(text, context_); }

  MaskContext context_{at::tensor(std::vector<int64_t>{0, 0, 1, 1})};
  MaskMod document_ = document(context_.document_ids_BT);
};

TEST_F(MaskParserTest, ReadsTheGrammar) {
  EXPECT_EQ(parse("causal"), causal());
  EXPECT_EQ(parse("full()"), full());
  EXPECT_EQ(parse("  none ( ) "), none());
  EXPECT_EQ(parse("causal & document"), causal() & document_);
  EXPECT_EQ(parse("causal&document|full"), (causal() & document_) | full());
  EXPECT_EQ(parse("causal & (document | full)"), causal() & (document_ | full()));
  EXPECT_EQ(parse("~causal & ~(document | ~~none)"), ~causal() & ~(document_ | ~~none()));
  EXPECT_EQ(parse("((causal))\n\t"), causal());
}

TEST_F(MaskParserTest, ErrorsNameColumnFoundAndExpected) {
  EXPECT_ERROR(parse(""), "column 1", "found the end", "causal, full, none, document");
  EXPECT_ERROR(parse("causal &"), "\"causal &\"", "column 9", "found the end", "causal, full");
  EXPECT_ERROR(parse("causal & doc"), "column 10", "found \"doc\"",
               "one of: causal, full, none, document");
  EXPECT_ERROR(parse("causal document"), "column 8", "found \"document\"",
               "\"&\", \"|\" or the end");
  EXPECT_ERROR(parse("(causal | full"), "column 15", "found the end", "\")\"");
  EXPECT_ERROR(parse("causal)"), "column 7", "found \")\"");
  EXPECT_ERROR(parse("causal + full"), "column 8", "found \"+\"");
  EXPECT_ERROR(parse("causal(3)"), "column 8", "found \"3\"", "takes no arguments");
  EXPECT_ERROR(parse("Causal"), "found \"Causal\"");
  EXPECT_ERROR(parse("~"), "column 2", "found the end");
}

TEST_F(MaskParserTest, DocumentNeedsIds) {
  EXPECT_ERROR(parse_mask("causal & document", {}), "column 10", "\"document\" needs document ids");
  EXPECT_EQ(parse_mask("causal", {}), causal());
}

TEST_F(MaskParserTest, SyntaxCheckNeedsNoTensor) {
  check_mask_syntax("causal & ~(document | full)");
  EXPECT_ERROR(check_mask_syntax("causal & window"), "column 10", "found \"window\"");
  EXPECT_ERROR(check_mask_syntax("causal & (document"), "column 19");
}

TEST_F(MaskParserTest, RefusesDeepNesting) {
  std::string nested(100, '(');
  nested += "causal";
  nested.append(100, ')');
  EXPECT_EQ(parse(nested), causal());
  EXPECT_ERROR(parse(std::string(100000, '(')), "column 201", "nested");
  EXPECT_ERROR(parse(std::string(100000, '~')), "column 201", "nested");
}

class RandomTree {
 public:
  RandomTree(uint32_t seed, MaskMod document_leaf)
      : random_(seed), leaves_{causal(), full(), none(), std::move(document_leaf)} {}

  MaskMod make(int depth) {
    switch (depth == 0 ? 0 : random_() % 4) {
      case 1:
        return ~make(depth - 1);
      case 2:
        return make(depth - 1) & make(depth - 1);
      case 3:
        return make(depth - 1) | make(depth - 1);
      default:
        return leaves_[random_() % leaves_.size()];
    }
  }

 private:
  std::mt19937 random_;
  std::vector<MaskMod> leaves_;
};

TEST_F(MaskParserTest, ParsesWhatRulesPrint) {
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    const MaskMod rule = RandomTree(seed, document_).make(5);
    ASSERT_EQ(parse(rule.to_string()), rule) << "seed " << seed << ": " << rule.to_string();
  }
}

// Any text is either a rule or an error; nothing else may happen.
TEST_F(MaskParserTest, SurvivesRandomText) {
  const std::vector<std::string> pieces{"causal", "full", "document", "&",    "|", "~", "(",
                                        ")",      " ",    "x",        "\xff", "1", ""};
  std::mt19937 random(1);
  int num_rules = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (uint32_t j = random() % 8; j > 0; --j) text += pieces[random() % pieces.size()];
    try {
      check_mask_syntax(text);
      parse(text);
      ++num_rules;
    } catch (const c10::Error&) {
      EXPECT_THROW(parse(text), c10::Error) << text;
    }
  }
  EXPECT_GT(num_rules, 100);
}

}  // namespace
}  // namespace tessera
