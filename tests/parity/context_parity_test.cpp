// Context parallelism in a whole step: N ranks equal one rank, for every method, and in products.
#include <gtest/gtest.h>

#include "tests/parity/parity.h"

namespace tessera::testing {
namespace {

ParityProblem problem_of(const std::string& mask_rule) {
  ParityProblem problem{.model = parity_model(), .num_rows = 4, .seq_len = 32, .num_steps = 5};
  problem.model.mask_rule = mask_rule;
  return problem;
}

const char* const kRules[] = {"causal & document", "causal & document & window(left=5)"};

struct Case {
  const char* name;
  ParityLayout layout;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

ParityLayout with(ParityLayout layout, ContextMethod method, LoadBalancer balancer) {
  layout.method = method;
  layout.balancer = balancer;
  return layout;
}

const ParityLayout kTwo{.dims = {.cp = 2}, .num_ranks = 2};
const ParityLayout kFour{.dims = {.cp = 4}, .num_ranks = 4, .recompute_every = 2};
using Method = ContextMethod;
using Balancer = LoadBalancer;

const Case kCases[] = {
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
};

class ContextParity : public ::testing::TestWithParam<std::tuple<Case, const char*>> {};

TEST_P(ContextParity, EqualsOneRank) {
  const auto& [c, rule] = GetParam();
  const ParityProblem problem = problem_of(rule);
  static std::map<std::string, ParityRun> expected;
  if (!expected.contains(rule)) expected[rule] = train_on_ranks({}, problem);
  const ParityRun got = train_on_ranks(c.layout, problem);
  expect_parity(got, expected.at(rule), 1e-9);
  EXPECT_EQ(got.num_valid_labels, expected.at(rule).num_valid_labels);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ContextParity,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::ValuesIn(kRules)),
                         [](const auto& info) {
                           const bool has_window = std::get<1>(info.param) == kRules[1];
                           return std::string(std::get<0>(info.param).name) +
                                  (has_window ? "_window" : "");
                         });

}  // namespace
}  // namespace tessera::testing
