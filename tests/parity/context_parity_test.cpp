// Context parallelism in a whole step: N ranks equal one rank, for every method, and in products.
#include <gtest/gtest.h>

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

class ContextParity : public ::testing::TestWithParam<std::tuple<ContextCase, const char*>> {};

TEST_P(ContextParity, EqualsOneRank) {
  const auto& [c, rule] = GetParam();
  const ParityProblem problem = context_problem(rule);
  static std::map<std::string, ParityRun> expected;
  if (!expected.contains(rule)) expected[rule] = train_on_ranks({}, problem);
  const ParityRun got = train_on_ranks(c.layout, problem);
  expect_parity(got, expected.at(rule), kParityTolerance);
  EXPECT_EQ(got.num_valid_labels, expected.at(rule).num_valid_labels);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ContextParity,
                         ::testing::Combine(::testing::ValuesIn(kContextCases),
                                            ::testing::ValuesIn(kRules)),
                         [](const auto& info) {
                           const bool has_window = std::get<1>(info.param) == kRules[1];
                           return std::string(std::get<0>(info.param).name) +
                                  (has_window ? "_window" : "");
                         });

// Every mask x balancer x method runs in a whole step, with a small model, as there are many.
// Beyond the operator's own test (context_attention_test.cpp) these tests see tokens, labels and
// positions that are cut like the masks.
ParityProblem small_problem(const std::string& attention, at::ScalarType dtype) {
  ParityProblem problem{.model = parity_llama(),
                        .attention = attention,
                        .dtype = dtype,
                        .num_rows = 2,
                        .seq_len = 48,
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

enum class Combinations {
  kAll,    // each mask with each balancer and each method
  kPairs,  // so many that each mask meets each balancer and each method, and these meet each other
};

void expect_every_mask_to_equal_one_rank(int64_t num_ranks, const ParityProblem& problem,
                                         Combinations combinations) {
  std::vector<ParityCase> whole, shared;
  for (const auto& [name, rule] : context_rules(problem.seq_len)) {
    for (size_t b = 0; b < std::size(kLoadBalancers); ++b) {
      for (size_t m = 0; m < std::size(kContextMethods); ++m) {
        const bool is_picked = (whole.size() + m) % std::size(kLoadBalancers) == b;
        if (combinations == Combinations::kPairs && !is_picked) continue;
        if (kContextMethods[m] == Method::kRing && problem.attention == "sdpa")
          continue;  // without lse
        ParityLayout layout{.dims = {.cp = num_ranks}, .num_ranks = num_ranks};
        layout.create_mask_fn = masks_of(rule);
        shared.push_back(
            {name + ", " + to_string(kLoadBalancers[b]) + ", " + to_string(kContextMethods[m]),
             with(layout, kContextMethods[m], kLoadBalancers[b]), problem});
      }
    }
    whole.push_back({name, {.create_mask_fn = masks_of(rule)}, problem});
  }
  const std::vector<ParityRun> expected = train_on_ranks(whole), got = train_on_ranks(shared);
  const size_t cases_of_a_mask = shared.size() / whole.size();
  for (size_t i = 0; i < shared.size(); ++i) {
    SCOPED_TRACE(shared[i].name);
    expect_parity(got[i], expected[i / cases_of_a_mask],
                  problem.dtype == at::kDouble ? kParityTolerance : 1e-5);
  }
}

TEST(ContextParityOfMasks, TwoRanksInFloat64) {
  expect_every_mask_to_equal_one_rank(2, small_problem("eager", at::kDouble), Combinations::kAll);
}

TEST(ContextParityOfMasks, FourRanksInFloat64) {
  expect_every_mask_to_equal_one_rank(4, small_problem("eager", at::kDouble), Combinations::kPairs);
}

TEST(ContextParityOfMasks, TwoRanksWithFlexInFloat32) {
  expect_every_mask_to_equal_one_rank(2, small_problem("flex", at::kFloat), Combinations::kPairs);
}

TEST(ContextParityOfMasks, TwoRanksWithSdpaInFloat32) {
  expect_every_mask_to_equal_one_rank(2, small_problem("sdpa", at::kFloat), Combinations::kPairs);
}

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

// The combinations that the tests above leave out. `ctest -L soak` runs them.
class SoakContextParityOfMasks : public ::testing::TestWithParam<int64_t> {};

TEST_P(SoakContextParityOfMasks, InFloat64) {
  expect_every_mask_to_equal_one_rank(GetParam(), small_problem("eager", at::kDouble),
                                      Combinations::kAll);
}

TEST_P(SoakContextParityOfMasks, WithFlexInFloat32) {
  expect_every_mask_to_equal_one_rank(GetParam(), small_problem("flex", at::kFloat),
                                      Combinations::kAll);
}

TEST_P(SoakContextParityOfMasks, WithSdpaInFloat32) {
  expect_every_mask_to_equal_one_rank(GetParam(), small_problem("sdpa", at::kFloat),
                                      Combinations::kAll);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SoakContextParityOfMasks, ::testing::Values(2, 4));

}  // namespace
}  // namespace tessera::testing
