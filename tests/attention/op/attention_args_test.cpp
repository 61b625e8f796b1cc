#include "attention/op/attention_args.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tessera {
namespace {

struct BandArgs {
  double temperature = 1.0;
  int64_t width = 8;
  bool symmetric = false;
  std::string mode = "hard";
  at::Tensor gate_H{};
};

AttentionSignature band_signature() {
  return AttentionSignature::of<BandArgs>({{"temperature", &BandArgs::temperature},
                                           {"width", &BandArgs::width},
                                           {"symmetric", &BandArgs::symmetric},
                                           {"mode", &BandArgs::mode},
                                           {"gate_H", &BandArgs::gate_H}});
}

BandArgs bound(const AttentionArgs& args) {
  return std::any_cast<BandArgs>(band_signature().bind(args, "band"));
}

TEST(AttentionArgsTest, DefaultsAreTheStructsOwn) {
  EXPECT_EQ(to_string(band_signature().defaults()),
            "temperature=1, width=8, symmetric=false, mode=hard, gate_H=no tensor");
  const BandArgs args = bound({});
  EXPECT_EQ(args.temperature, 1.0);
  EXPECT_EQ(args.width, 8);
  EXPECT_EQ(args.mode, "hard");
  EXPECT_FALSE(args.gate_H.defined());
}

TEST(AttentionArgsTest, BindsEveryTypeAndTheLaterOfTwoCounts) {
  const at::Tensor gate = at::ones({3});
  const BandArgs args = bound({{"temperature", 0.5},
                               {"width", int64_t{4}},
                               {"symmetric", true},
                               {"mode", std::string("soft")},
                               {"gate_H", gate},
                               {"width", int64_t{6}}});
  EXPECT_EQ(args.temperature, 0.5);
  EXPECT_EQ(args.width, 6);
  EXPECT_TRUE(args.symmetric);
  EXPECT_EQ(args.mode, "soft");
  EXPECT_TRUE(args.gate_H.is_same(gate));
  EXPECT_EQ(bound({{"temperature", int64_t{2}}}).temperature, 2.0);  // an integer is a number
}

TEST(AttentionArgsTest, RefusesUnknownNamesAndWrongTypes) {
  EXPECT_ERROR(bound({{"wdith", int64_t{4}}}), "\"band\"", "\"wdith\"",
               "one of: temperature, width, symmetric, mode, gate_H");
  EXPECT_ERROR(bound({{"width", 0.5}}), "argument width", "a number, 0.5", "expected an integer");
  EXPECT_ERROR(bound({{"mode", true}}), "argument mode", "true or false, true", "a word");
  EXPECT_ERROR(bound({{"gate_H", std::string("x")}}), "argument gate_H", "expected a tensor");
  EXPECT_ERROR(AttentionSignature().bind({{"width", int64_t{4}}}, "sdpa"), "\"sdpa\"", "\"width\"",
               "one of: none");
}

TEST(AttentionArgsTest, RefusesBadSignatures) {
  EXPECT_ERROR(AttentionSignature::of<BandArgs>({{"a b", &BandArgs::width}}), "\"a b\"");
  EXPECT_ERROR(
      AttentionSignature::of<BandArgs>({{"w", &BandArgs::width}, {"w", &BandArgs::temperature}}),
      "\"w\" twice");
}

}  // namespace
}  // namespace tessera
