// Context parallelism in a whole step: N ranks equal one rank, for every method, and in products.
#include <gtest/gtest.h>

#include <map>

#include "tests/parallel/context/plan/context_rules.h"
#include "tests/parity/parity.h"
#include "tests/support/errors.h"

namespace tessera::testing {
namespace {

ParityProblem context_problem(const std::string& mask_rule) {
  ParityProblem problem{.model = parity_llama(), .num_rows = 4, .seq_len = 32, .num_steps = 5};
  problem.model.mask_rule = mask_rule;
  return problem;
}

const char* const kRules[] = {"causal & document", "causal & document & window(left=5)"};

struct ContextCase {
  const char* name;
  ParityLayout layout;
};

void PrintTo(const ContextCase& c, std::ostream* out) { *out << c.name; }

ParityLayout with(ParityLayout layout, ContextMethod method, LoadBalancer balancer) {
  layout.method = method;
  layout.balancer = balancer;
  return layout;
}

const ParityLayout kTwo{.dims = {.cp = 2}, .num_ranks = 2};
const ParityLayout kFour{.dims = {.cp = 4}, .num_ranks = 4, .recompute_every = 2};
using Method = ContextMethod;
using Balancer = LoadBalancer;

const ContextCase kContextCases[] = {
    {"all_gather2", with(kTwo, Method::kAllGather, Balancer::kHeadTail)},
    {"ring2", with(kTwo, Method::kRing, Balancer::kContiguous)},
    {"ulysses2", with(kTwo, Method::kAllToAll, Balancer::kRoundRobin)},
    {"needed_kv2", with(kTwo, Method::kNeededKv, Balancer::kMinHeap)},
    {"all_gather4", with(kFour, Method::kAllGather, Balancer::kMinHeap)},
    {"ring4", with(kFour, Method::kRing, Balancer::kHeadTail)},
    {"ulysses4", with(kFour, Method::kAllToAll, Balancer::kContiguous)},
    {"needed_kv4", with(kFour, Method::kNeededKv, Balancer::kRoundRobin)},
    {"fsdp2_cp2", {.dims = {.cp = 2}, .num_ranks = 4, .num_microbatches = 2}},
    {"tp2_cp2", {.dims = {.cp = 2, .tp = 2}, .num_ranks = 4}},
    {"fsdp2_tp2_cp2", {.dims = {.cp = 2, .tp = 2}, .num_ranks = 8, .recompute_every = 1}},
    {"pp2_cp2", {.dims = {.cp = 2, .pp = 2}, .num_ranks = 4, .pipeline_microbatches = 4}},
    {"pp2_cp2_ring_zero_bubble",
     {.dims = {.cp = 2, .pp = 2},
      .num_ranks = 4,
      .recompute_every = 1,
      .schedule = "InterleavedZeroBubble",
      .pipeline_microbatches = 4,
      .method = ContextMethod::kRing}},
    {"fsdp2_pp2_cp2", {.dims = {.cp = 2, .pp = 2}, .num_ranks = 8, .pipeline_microbatches = 2}},
    {"tp2_pp2_cp2",
     {.dims = {.cp = 2, .tp = 2, .pp = 2}, .num_ranks = 8, .pipeline_microbatches = 2}},
};

struct ContextRun {
  ContextCase layout;
  size_t rule;  // of kRules
};

void PrintTo(const ContextRun& run, std::ostream* out) { *out << run.layout.name; }

std::vector<ContextRun> all_context_runs() {
  std::vector<ContextRun> all;
  for (const ContextCase& layout : kContextCases) {
    for (size_t rule = 0; rule < std::size(kRules); ++rule) all.push_back({layout, rule});
  }
  return all;
}

std::vector<ContextRun> few_context_runs() {
  return pairwise(
      all_context_runs(),
      [](const ContextRun& run) {
        Combination values = values_of(run.layout.layout);
        values.push_back(static_cast<int64_t>(run.rule));
        return values;
      },
      [](const ContextRun& run) { return run.layout.name; });
}

std::string name_of_context_run(const ::testing::TestParamInfo<ContextRun>& info) {
  return std::string(info.param.layout.name) + (info.param.rule == 1 ? "_window" : "");
}

class ContextParity : public ::testing::TestWithParam<ContextRun> {};

TEST_P(ContextParity, EqualsOneRank) {
  const auto& [c, rule] = GetParam();
  const ParityProblem problem = context_problem(kRules[rule]);
  static std::map<size_t, ParityRun> expected;
  const auto [place, is_new] = expected.try_emplace(rule);
  if (is_new) place->second = train_on_ranks({}, problem);
  expect_parity(train_on_ranks(c.layout, problem), place->second, kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ContextParity, ::testing::ValuesIn(few_context_runs()),
                         name_of_context_run);
INSTANTIATE_TEST_SUITE_P(SoakLayouts, ContextParity, ::testing::ValuesIn(all_context_runs()),
                         name_of_context_run);

// Masks, balancers and methods run in a whole step, with a small model, as there are many.
// Beyond the operator's own test (context_attention_test.cpp) these tests see tokens, labels and
// positions that are cut like the masks.
constexpr int64_t kSeqLen = 48;

ParityProblem small_problem(const std::string& attention, at::ScalarType dtype) {
  ParityProblem problem{.model = parity_llama(),
                        .attention = attention,
                        .dtype = dtype,
                        .num_rows = 2,
                        .seq_len = kSeqLen,
                        .lr = dtype == at::kDouble ? 1e-2 : 1e-3};
  problem.model.n_layers = 1;
  problem.model.dim = 16;
  problem.model.n_heads = 4;
  problem.model.n_kv_heads = 2;
  problem.model.ffn_dim = 24;
  return problem;
}

// Gives every row the mask of `rule`: a model's own rule says nothing of images and prefixes.
CreateMaskFn masks_of(const MaskMod& rule) {
  return [rule](const MaskMod& /*of_the_model*/, const MaskShape& shape) {
    MaskShape for_all_rows = shape;
    for_all_rows.batch = 1;
    return create_block_mask(rule, for_all_rows);
  };
}

// The combinations of an attention, a number of ranks, a mask, a balancer and a method, by index.
struct MaskCombinations {
  std::vector<std::string> attentions;
  at::ScalarType dtype;

  std::vector<Combination> all() const {
    const auto masks = static_cast<int64_t>(context_rules(kSeqLen).size());
    return all_combinations({static_cast<int64_t>(attentions.size()), std::size(kRankCounts), masks,
                             std::size(kLoadBalancers), std::size(kContextMethods)},
                            [&](const Combination& c) {
                              const auto method = kContextMethods[static_cast<size_t>(c[4])];
                              return method == Method::kRing &&  // it merges by lse
                                     attentions[static_cast<size_t>(c[0])] == "sdpa";
                            });
  }
  std::vector<Combination> few() const {
    const std::vector<Combination> product = all();
    std::vector<Combination> picked;
    for (const size_t i : pairwise_cover(product)) picked.push_back(product[i]);
    return picked;
  }

  static constexpr int64_t kRankCounts[] = {2, 4};
};

const MaskCombinations kInFloat64{{"eager"}, at::kDouble};
const MaskCombinations kInFloat32{{"flex", "sdpa"}, at::kFloat};

ParityCase case_of(const MaskCombinations& of, const Combination& c) {
  const ParityProblem problem = small_problem(of.attentions[static_cast<size_t>(c[0])], of.dtype);
  const int64_t num_ranks = MaskCombinations::kRankCounts[c[1]];
  const auto rules = context_rules(kSeqLen);
  const auto& [name, rule] = rules[static_cast<size_t>(c[2])];
  const LoadBalancer balancer = kLoadBalancers[c[3]];
  const ContextMethod method = kContextMethods[c[4]];
  ParityLayout layout{.dims = {.cp = num_ranks}, .num_ranks = num_ranks};
  layout.create_mask_fn = masks_of(rule);
  return {problem.attention + ", " + name + ", " + to_string(balancer) + ", " + to_string(method),
          with(layout, method, balancer), problem};
}

void expect_to_equal_one_rank(const MaskCombinations& of,
                              const std::vector<Combination>& combinations) {
  std::map<std::pair<int64_t, int64_t>, ParityRun> expected;  // by attention and mask
  for (size_t r = 0; r < std::size(MaskCombinations::kRankCounts); ++r) {
    std::vector<Combination> chosen;
    std::vector<ParityCase> cases;
    for (const Combination& c : combinations) {
      if (c[1] != static_cast<int64_t>(r)) continue;
      chosen.push_back(c);
      cases.push_back(case_of(of, c));
    }
    const std::vector<ParityRun> got = train_on_ranks(cases);
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(cases[i].name);
      const auto [place, is_new] = expected.try_emplace({chosen[i][0], chosen[i][2]});
      if (is_new) {
        place->second =
            train_on_ranks({.create_mask_fn = cases[i].layout.create_mask_fn}, cases[i].problem);
      }
      expect_parity(got[i], place->second, of.dtype == at::kDouble ? kParityTolerance : 1e-5);
    }
  }
}

TEST(ContextParityOfMasks, InFloat64) { expect_to_equal_one_rank(kInFloat64, kInFloat64.few()); }
TEST(ContextParityOfMasks, InFloat32) { expect_to_equal_one_rank(kInFloat32, kInFloat32.few()); }

// A problem whose documents two ranks can share evenly. Rows differ, so that each microbatch of one
// row has a plan and tiles of its own, of 2, 4, 1 and 2 tokens.
ParityProblem document_problem() {
  ParityProblem problem = context_problem(kRules[0]);
  problem.documents = {{8, 24}, {16, 16}, {4, 8, 20}, {24, 8}};
  return problem;
}

ParityLayout by_document(ParityLayout layout, ContextMethod method) {
  return with(layout, method, Balancer::kDocumentHeadTail);
}

const ParityLayout kRowByRow{.dims = {.cp = 2}, .num_ranks = 2, .num_microbatches = 4};
const ContextCase kDocumentCases[] = {
    {"all_gather2", by_document(kRowByRow, Method::kAllGather)},
    {"ring2", by_document(kRowByRow, Method::kRing)},
    {"ulysses2", by_document(kRowByRow, Method::kAllToAll)},
    {"needed_kv2", by_document(kRowByRow, Method::kNeededKv)},
    {"pp2_cp2", by_document({.dims = {.cp = 2, .pp = 2},
                             .num_ranks = 4,
                             .schedule = "Interleaved1F1B",
                             .pipeline_microbatches = 4},
                            Method::kNeededKv)},
    {"fsdp2_cp2",
     by_document({.dims = {.cp = 2}, .num_ranks = 4, .num_microbatches = 2}, Method::kRing)},
};

class DocumentBalancerParity : public ::testing::TestWithParam<ContextCase> {};

TEST_P(DocumentBalancerParity, EqualsOneRank) {
  static const ParityRun expected = train_on_ranks({}, document_problem());
  expect_parity(train_on_ranks(GetParam().layout, document_problem()), expected, kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, DocumentBalancerParity, ::testing::ValuesIn(kDocumentCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(DocumentBalancer, RowsOfOneMicrobatchHaveTheSameDocuments) {
  ParityProblem problem = context_problem(kRules[1]);
  problem.documents = {{4, 28}};
  const ParityLayout layout = by_document(kTwo, Method::kNeededKv);
  expect_parity(train_on_ranks(layout, problem), train_on_ranks({}, problem), kParityTolerance);
  EXPECT_ERROR(train_on_ranks(layout, document_problem()), "row 1 of a microbatch",
               "document 0: got 16 tokens, expected 8 as in row 0");
}

TEST(DocumentBalancer, OtherDocumentsAreRefused) {
  const ParityLayout layout = by_document(kRowByRow, Method::kNeededKv);
  EXPECT_ERROR(train_on_ranks(layout, context_problem(kRules[0])),
               "document_head_tail: document 1 of 6: got 3 tokens",
               "expected a multiple of 4 (2 x 2 ranks)");
}

// The products whose pairs the tests above cover. `ctest -L soak` runs them.
TEST(SoakContextParityOfMasks, InFloat64) {
  expect_to_equal_one_rank(kInFloat64, kInFloat64.all());
}
TEST(SoakContextParityOfMasks, InFloat32) {
  expect_to_equal_one_rank(kInFloat32, kInFloat32.all());
}

}  // namespace
}  // namespace tessera::testing
