#include "attention/registry/attention_choice.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

TEST(AttentionChoiceTest, ReadsOneNameForEveryPart) {
  const std::vector<AttentionChoice> choices = parse_attention_choices(" flex ");
  ASSERT_EQ(choices.size(), 1U);
  EXPECT_EQ(choices[0].kind, "");
  EXPECT_EQ(choices[0].name, "flex");
  EXPECT_TRUE(choices[0].args.empty());
}

TEST(AttentionChoiceTest, ReadsPartsAndTypedArguments) {
  const std::vector<AttentionChoice> choices = parse_attention_choices(
      "flex, sliding = band(width=-4, temperature=5e-1, symmetric=true, mode=soft-er), rope=x()");
  ASSERT_EQ(choices.size(), 3U);
  EXPECT_EQ(choices[1].kind, "sliding");
  EXPECT_EQ(choices[1].name, "band");
  const AttentionArgs expected{{"width", int64_t{-4}},
                               {"temperature", 0.5},
                               {"symmetric", true},
                               {"mode", std::string("soft-er")}};
  ASSERT_EQ(choices[1].args.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(choices[1].args[i].first, expected[i].first);
    EXPECT_EQ(choices[1].args[i].second.index(), expected[i].second.index());
    EXPECT_EQ(to_string(choices[1].args[i].second), to_string(expected[i].second));
  }
  EXPECT_EQ(choices[2].kind, "rope");
  EXPECT_TRUE(choices[2].args.empty());
}

TEST(AttentionChoiceTest, ErrorsNameColumnAndWhatWasExpected) {
  EXPECT_ERROR(parse_attention_choices(""), "column 1", "the end", "the name of a backend");
  EXPECT_ERROR(parse_attention_choices("flex sdpa"), "column 6", "\"sdpa\"", "\",\" or the end");
  EXPECT_ERROR(parse_attention_choices("flex,"), "column 6", "the end");
  EXPECT_ERROR(parse_attention_choices("band(width)"), "column 11", "\"=\"");
  EXPECT_ERROR(parse_attention_choices("band(width=)"), "column 12", "a value");
  EXPECT_ERROR(parse_attention_choices("band(width=1"), "column 13", "\",\" or \")\"");
  EXPECT_ERROR(parse_attention_choices("flex, sdpa"), "two choices for every kind of layer");
  EXPECT_ERROR(parse_attention_choices("a=flex, a=sdpa"), "two choices for kind \"a\"");
}

}  // namespace
}  // namespace tessera
