#include "attention/registry/mask_parser.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <random>

#include "attention/registry/mask_registry.h"
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
  EXPECT_ERROR(parse(""), "column 1", "found the end", "causal, full, none, window");
  EXPECT_ERROR(parse("causal &"), "\"causal &\"", "column 9", "found the end", "causal, full");
  EXPECT_ERROR(parse("causal & doc"), "column 10", "found \"doc\"",
               "one of: causal, full, none, window");
  EXPECT_ERROR(parse("causal document"), "column 8", "found \"document\"",
               "\"&\", \"|\" or the end");
  EXPECT_ERROR(parse("(causal | full"), "column 15", "found the end", "\")\"");
  EXPECT_ERROR(parse("causal)"), "column 7", "found \")\"");
  EXPECT_ERROR(parse("causal + full"), "column 8", "found \"+\"");
  EXPECT_ERROR(parse("causal(3)"), "column 8", "found \"3\"", "takes no integers");
  EXPECT_ERROR(parse("Causal"), "found \"Causal\"");
  EXPECT_ERROR(parse("~"), "column 2", "found the end");
}

TEST_F(MaskParserTest, ReadsArguments) {
  EXPECT_EQ(parse("window(left=127)"), sliding_window({.left = 127}));
  EXPECT_EQ(parse("window( right = 2 , left=1)"), sliding_window({.left = 1, .right = 2}));
  EXPECT_EQ(parse("window(3, 4)"), sliding_window({.left = 3, .right = 4}));
  EXPECT_EQ(parse("window"), sliding_window({}));
  EXPECT_EQ(parse("chunked(8) & first_tokens(n=4)"), chunked(8) & first_tokens(4));
  EXPECT_EQ(parse("offset(causal | full, q=2, kv=-3)"), offset(causal() | full(), 2, -3));
  EXPECT_EQ(parse("offset(causal)"), offset(causal(), 0, 0));
  EXPECT_EQ(parse("per_document(causal & chunked(3))"),
            per_document(causal() & chunked(3), context_.document_ids_BT));
}

TEST_F(MaskParserTest, RefusesWrongArguments) {
  EXPECT_ERROR(parse("causal & window(left=-1)"), "column 10", "sliding_window: left: got -1");
  EXPECT_ERROR(parse("window(middle=1)"), "column 8", "found \"middle\"", "one of: left, right");
  EXPECT_ERROR(parse("window(left 1)"), "column 13", "expected \"=\"");
  EXPECT_ERROR(parse("window(left=)"), "column 13", "expected an integer");
  EXPECT_ERROR(parse("window(left=1, left=2)"), "column 21", "no second value for \"left\"");
  EXPECT_ERROR(parse("window(1, 2, 3)"), "column 14", "no more parameters");
  EXPECT_ERROR(parse("window(left=99999999999999999999)"), "expected an integer");
  EXPECT_ERROR(parse("window(left=4611686018427387904)"), "left: got 4611686018427387904", "2^46");
  EXPECT_ERROR(parse("chunked"), "column 8", "value for \"size\"");
  EXPECT_ERROR(parse("chunked(size=0)"), "column 1", "chunked: size: got 0");
  EXPECT_ERROR(parse("offset"), "column 7", "expected \"(\" and a rule");
  EXPECT_ERROR(parse("offset(2)"), "column 8", "found \"2\"");
  EXPECT_ERROR(parse("per_document(causal, 3)"), "column 22", "takes no integers");
  EXPECT_ERROR(parse_mask("key_padding", {}), "\"key_padding\" needs a mask of valid tokens");
  EXPECT_ERROR(parse_mask("block_ids", {}), "needs block ids");
  EXPECT_ERROR(parse_mask("prefix_lm", {}), "needs prefix lengths");
  EXPECT_ERROR(parse_mask("per_document(causal)", {}), "needs document ids");
  MaskContext two_and_three = context_;
  two_and_three.document_ids_BT = at::zeros({2, 4}, at::kLong);
  two_and_three.block_ids_BT = at::zeros({3, 4}, at::kLong);
  EXPECT_ERROR(parse_mask("document & block_ids", two_and_three), "batch rows", "2 and 3");
}

TEST_F(MaskParserTest, DocumentNeedsIds) {
  EXPECT_ERROR(parse_mask("causal & document", {}), "column 10", "\"document\" needs document ids");
  EXPECT_EQ(parse_mask("causal", {}), causal());
}

TEST_F(MaskParserTest, SyntaxCheckNeedsNoTensor) {
  check_mask_syntax("causal & ~(document | full)");
  check_mask_syntax("per_document(chunked(size=8)) & key_padding & prefix_lm | block_ids");
  EXPECT_ERROR(check_mask_syntax("causal & windows"), "column 10", "found \"windows\"");
  EXPECT_ERROR(check_mask_syntax("per_document(window(left=-1))"), "column 14", "left: got -1");
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

// Random rules whose tensors all come from one context, as a rule string's do.
class RandomTree {
 public:
  RandomTree(uint32_t seed, const MaskContext& context) : random_(seed), context_(context) {
    leaves_ = {causal(),
               full(),
               none(),
               sliding_window({}),
               sliding_window({.left = 3}),
               sliding_window({.left = 0, .right = 127}),
               chunked(5),
               first_tokens(0),
               document(context.document_ids_BT),
               block_ids(context.block_ids_BT),
               key_padding(context.valid_BT),
               prefix_lm(context.prefix_lengths_B),
               mask_fn("dilated", {{"step", 2}, {"phase", -1}}, [](auto...) { return true; }),
               mask_fn("plain", {}, [](auto...) { return true; })};
  }

  MaskMod make(int depth) {
    switch (depth == 0 ? 0 : random_() % 6) {
      case 1:
        return ~make(depth - 1);
      case 2:
        return make(depth - 1) & make(depth - 1);
      case 3:
        return make(depth - 1) | make(depth - 1);
      case 4:
        return offset(make(depth - 1), static_cast<int64_t>(random_() % 2), 0);
      case 5:
        return in_documents(make(depth - 1));
      default:
        return leaves_[random_() % leaves_.size()];
    }
  }

 private:
  // Documents may be longer than what a shifted rule covers.
  MaskMod in_documents(const MaskMod& rule) {
    const bool covers_all = rule.covered_queries().end >= 4 && rule.covered_queries().begin <= 0;
    return covers_all ? per_document(rule, context_.document_ids_BT) : rule;
  }

  std::mt19937 random_;
  const MaskContext& context_;
  std::vector<MaskMod> leaves_;
};

TEST_F(MaskParserTest, ParsesWhatRulesPrint) {
  const MaskContext context{.document_ids_BT = at::tensor(std::vector<int64_t>{0, 0, 1, 1}),
                            .valid_BT = at::tensor(std::vector<int64_t>{1, 1, 1, 0}).eq(1),
                            .block_ids_BT = at::tensor(std::vector<int64_t>{-1, 0, -1, 0}),
                            .prefix_lengths_B = at::tensor(std::vector<int64_t>{2})};
  MaskRegistry registry = MaskRegistry::with_builtins();
  const auto make = [](const char* name) {
    return [name](const MaskArguments& arguments, const MaskContext&) {
      return mask_fn(name, arguments.values, [](auto...) { return true; });
    };
  };
  registry.add_rule(
      {.name = "dilated", .parameters = {{"step"}, {"phase"}}, .make = make("dilated")});
  registry.add_rule({.name = "plain", .make = make("plain")});
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    const MaskMod rule = RandomTree(seed, context).make(5);
    ASSERT_EQ(parse_mask(rule.to_string(), context, registry), rule)
        << "seed " << seed << ": " << rule.to_string();
    check_mask_syntax(rule.to_string(), registry);
  }
}

// Any text is either a rule or an error; nothing else may happen.
TEST_F(MaskParserTest, SurvivesRandomText) {
  const std::vector<std::string> pieces{"causal", "full", "document", "&",      "|",
                                        "~",      "(",    ")",        " ",      "x",
                                        "\xff",   "1",    "",         "window", ",",
                                        "=",      "left", "chunked",  "offset", "per_document"};
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
  EXPECT_GT(num_rules, 50);
}

}  // namespace
}  // namespace tessera
