#include "attention/masks/mask_mod.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/attention/masks/reference_masks.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids;
using testing::RandomRule;
using testing::RandomRules;

TEST(MaskModTest, LeavesFollowTheirDefinition) {
  const MaskMod packed = document(ids({7, 7, 3, 3, 3, 9}));
  for (int64_t q = 0; q < 6; ++q) {
    for (int64_t kv = 0; kv < 6; ++kv) {
      EXPECT_EQ(causal().allows(0, 0, q, kv), kv <= q);
      EXPECT_TRUE(full().allows(0, 0, q, kv));
      EXPECT_FALSE(none().allows(0, 0, q, kv));
      const auto document_of = [](int64_t t) { return t < 2 ? 0 : t < 5 ? 1 : 2; };
      EXPECT_EQ(packed.allows(0, 0, q, kv), document_of(q) == document_of(kv)) << q << " " << kv;
    }
  }
}

TEST(MaskModTest, OperatorsFollowBooleanAlgebra) {
  const MaskMod a = causal();
  const MaskMod b = document(ids({0, 0, 1, 1}));
  for (int64_t q = 0; q < 4; ++q) {
    for (int64_t kv = 0; kv < 4; ++kv) {
      const bool in_a = a.allows(0, 0, q, kv);
      const bool in_b = b.allows(0, 0, q, kv);
      EXPECT_EQ((a & b).allows(0, 0, q, kv), in_a && in_b);
      EXPECT_EQ((a | b).allows(0, 0, q, kv), in_a || in_b);
      EXPECT_EQ((~a).allows(0, 0, q, kv), !in_a);
    }
  }
  EXPECT_EQ(and_masks({}), full());
  EXPECT_EQ(or_masks({}), none());
  EXPECT_EQ(and_masks({a}), a);
  EXPECT_EQ(or_masks({b}), b);
}

TEST(MaskModTest, DocumentRowsAreTheirOwn) {
  const MaskMod rule = document(at::tensor(std::vector<int64_t>{0, 0, 1, 0, 1, 1}).view({2, 3}));
  EXPECT_EQ(rule.batch_size(), 2);
  EXPECT_EQ(rule.covered_keys(), (TokenRange{0, 3}));
  EXPECT_TRUE(rule.allows(0, 0, 1, 0));
  EXPECT_FALSE(rule.allows(1, 0, 1, 0));
  // One row stands for every batch element.
  EXPECT_TRUE(document(ids({4, 4})).allows(/*b=*/5, 0, 0, 1));
}

TEST(MaskModTest, AllowedKeysAreRanges) {
  const MaskMod rule = causal() & document(ids({0, 0, 0, 1, 1, 1, 1, 2}));
  EXPECT_EQ(rule.allowed_keys(0, 0, 5, {0, 8}), (RangeSet{{3, 6}}));
  EXPECT_EQ(rule.allowed_keys(0, 0, 5, {4, 5}), (RangeSet{{4, 5}}));
  EXPECT_EQ((~rule).allowed_keys(0, 0, 5, {0, 8}), (RangeSet{{0, 3}, {6, 8}}));
  EXPECT_EQ(rule.allowed_keys(0, 0, 5, {0, 3}), RangeSet{});
  EXPECT_EQ(rule.allowed_keys(0, 0, 5, {6, 6}), RangeSet{});
  // Touching ranges of an `or` are one.
  EXPECT_EQ((causal() | ~causal()).allowed_keys(0, 0, 3, {0, 8}), (RangeSet{{0, 8}}));
}

TEST(MaskModTest, VerdictsOfLeavesAreExact) {
  const MaskMod packed = document(ids({0, 0, 0, 1, 1, 1, 1, 2}));
  EXPECT_EQ(packed.classify(0, 0, {3, 6}, {4, 7}), TileVerdict::kFull);
  EXPECT_EQ(packed.classify(0, 0, {3, 7}, {0, 3}), TileVerdict::kEmpty);
  EXPECT_EQ(packed.classify(0, 0, {2, 4}, {2, 4}), TileVerdict::kMixed);
  EXPECT_EQ(causal().classify(0, 0, {4, 8}, {0, 5}), TileVerdict::kFull);
  EXPECT_EQ(causal().classify(0, 0, {4, 8}, {0, 6}), TileVerdict::kMixed);
  EXPECT_EQ(causal().classify(0, 0, {4, 8}, {8, 9}), TileVerdict::kEmpty);
  EXPECT_EQ((~causal()).classify(0, 0, {4, 8}, {8, 9}), TileVerdict::kFull);
  EXPECT_EQ(full().classify(0, 0, {4, 4}, {8, 9}), TileVerdict::kEmpty);
}

// Element, ranges of a row and verdict of a rectangle must tell the same, for any expression.
TEST(MaskModTest, RandomRulesAgreeWithTheirDefinition) {
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    constexpr int64_t kTokens = 24;
    RandomRules random(seed, kTokens);
    const RandomRule random_rule = random.rule(/*batch=*/2, /*depth=*/3);
    const MaskMod& rule = random_rule.rule;
    const int64_t b = random.uniform(0, 1);
    const TokenRange queries{random.uniform(0, kTokens - 1), random.uniform(1, kTokens)};
    const TokenRange keys{random.uniform(0, kTokens - 1), random.uniform(1, kTokens)};
    int64_t num_allowed = 0;
    for (int64_t q = queries.begin; q < queries.end; ++q) {
      RangeSet expected;
      for (int64_t kv = keys.begin; kv < keys.end; ++kv) {
        const bool allowed = random_rule.allows(b, 0, q, kv);
        ASSERT_EQ(rule.allows(b, 0, q, kv), allowed) << rule.to_string() << " " << q << " " << kv;
        if (!allowed) continue;
        ++num_allowed;
        if (expected.empty() || expected.back().end != kv) expected.push_back({kv, kv});
        expected.back().end = kv + 1;
      }
      ASSERT_EQ(rule.allowed_keys(b, 0, q, keys), expected) << rule.to_string() << " q " << q;
    }
    const TileVerdict verdict = rule.classify(b, 0, queries, keys);
    if (verdict == TileVerdict::kFull) {
      ASSERT_EQ(num_allowed, queries.size() * keys.size());
    }
    if (verdict == TileVerdict::kEmpty) {
      ASSERT_EQ(num_allowed, 0);
    }
  }
}

TEST(MaskModTest, PrintsWithFewestParentheses) {
  const MaskMod d = document(ids({0, 1}));
  EXPECT_EQ((causal() & d).to_string(), "causal & document");
  EXPECT_EQ(((causal() & d) | full()).to_string(), "causal & document | full");
  EXPECT_EQ((causal() & (d | full())).to_string(), "causal & (document | full)");
  EXPECT_EQ((~causal() & ~(d | none())).to_string(), "~causal & ~(document | none)");
  EXPECT_EQ((~~causal()).to_string(), "~~causal");
  EXPECT_EQ((causal() & (d & full())).to_string(), "causal & document & full");
}

TEST(MaskModTest, EqualityAndHashAreByValue) {
  EXPECT_EQ(causal(), causal());
  EXPECT_FALSE(causal() == full());
  EXPECT_EQ((causal() & full()) & none(), causal() & (full() & none()));
  EXPECT_FALSE((causal() & full()) == (full() & causal()));  // order is kept as written
  EXPECT_FALSE((causal() & full()) == (causal() | full()));
  EXPECT_FALSE(~causal() == causal());

  const MaskMod a = document(ids({0, 0, 1}));
  const MaskMod same = document(ids({0, 0, 1}));
  const MaskMod renamed = document(ids({8, 8, 5}));
  const MaskMod other = document(ids({0, 1, 1}));
  EXPECT_EQ(a, same);
  EXPECT_EQ(a, renamed);  // allows the same pairs
  EXPECT_FALSE(a == other);
  EXPECT_EQ((causal() & a).hash(), (causal() & same).hash());
  EXPECT_NE((causal() & a).hash(), (causal() & other).hash());
  EXPECT_NE((causal() & a).hash(), (causal() | a).hash());
  EXPECT_NE((~causal()).hash(), causal().hash());
}

TEST(MaskModTest, EqualRulesHashEqually) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    RandomRules first(seed, 16);
    RandomRules again(seed, 16);
    const MaskMod a = first.rule(2, 3).rule;
    const MaskMod b = again.rule(2, 3).rule;
    EXPECT_EQ(a, b) << "seed " << seed;
    EXPECT_EQ(a.hash(), b.hash()) << "seed " << seed;
  }
}

TEST(MaskModTest, DocumentRefusesBadIds) {
  EXPECT_ERROR(document(at::Tensor()), "ids_BT", "int64");
  EXPECT_ERROR(document(at::zeros({4}, at::kInt)), "ids_BT", "Int", "int64");
  EXPECT_ERROR(document(at::zeros({1, 2, 3}, at::kLong)), "ids_BT", "[1, 2, 3]", "[B, T]");
  EXPECT_ERROR(document(at::zeros({2, 0}, at::kLong)), "at least one element");
  EXPECT_ERROR(document(at::tensor(std::vector<int64_t>{0, 0, 0, 4, 5, 4}).view({2, 3})), "row 1",
               "id 4", "tokens 0 and 2", "adjacent");
}

TEST(MaskModTest, DocumentTakesStridedIds) {
  const at::Tensor ids_TB = at::tensor(std::vector<int64_t>{0, 5, 0, 6, 1, 6}).view({3, 2});
  EXPECT_EQ(document(ids_TB.t()), document(ids_TB.t().contiguous()));
}

TEST(MaskModTest, RefusesWhatARuleDoesNotCover) {
  const MaskMod two_rows = document(at::zeros({2, 4}, at::kLong));
  EXPECT_ERROR(two_rows.allows(2, 0, 0, 0), "batch row 2", "0 to 1");
  EXPECT_ERROR(two_rows.allows(0, -1, 0, 0), "head -1");
  EXPECT_ERROR(two_rows.allows(0, 0, 4, 0), "query 4", "0 to 3");
  EXPECT_ERROR(two_rows.allows(0, 0, 0, -1), "key -1");
  EXPECT_ERROR(two_rows.allowed_keys(0, 0, 0, {0, 5}), "keys 0 to 4", "0 to 3");
  EXPECT_ERROR(two_rows.classify(0, 0, {0, 5}, {0, 1}), "queries 0 to 4");
  EXPECT_ERROR(two_rows & document(at::zeros({3, 4}, at::kLong)), "batch rows", "2", "3");
  EXPECT_ERROR(MaskMod(nullptr), "no node");
  EXPECT_EQ((two_rows & document(at::zeros({7}, at::kLong))).covered_queries().end, 4);
  EXPECT_EQ((~two_rows | causal()).batch_size(), 2);
}

}  // namespace
}  // namespace tessera
