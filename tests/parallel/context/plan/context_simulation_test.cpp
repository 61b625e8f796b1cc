// Context parallelism without ranks: each rank's part is computed in turn by the eager oracle in
// float64, keys handed over as the exchanges say, partial results merged. Autograd adds up what the
// ranks contribute to the gradients of keys and values.
//
// Shape legend: as in attention.h.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "attention/op/merge.h"
#include "parallel/context/plan/head_exchange.h"
#include "parallel/context/plan/load_balance.h"
#include "parallel/context/plan/shard_masks.h"
#include "tests/attention/op/attention_cases.h"
#include "tests/parallel/context/plan/context_rules.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::backend;
using testing::context_rules;
using testing::expect_close;
using testing::ids_of;
using testing::kContextMethods;
using testing::random_inputs;
using testing::square_mask;

at::Tensor blocks_of(const at::Tensor& x_BTHD, const std::vector<int64_t>& blocks, int64_t size) {
  std::vector<at::Tensor> parts{x_BTHD.narrow(1, 0, 0)};
  for (const int64_t block : blocks) parts.push_back(x_BTHD.narrow(1, block * size, size));
  return at::cat(parts, 1);
}

// The keys at hand after an exchange: own blocks and what the peers sent, put in order.
at::Tensor exchanged(const at::Tensor& x_BSKD, const ShardPlan& plan, int64_t rank,
                     const KvExchange& exchange) {
  std::vector<at::Tensor> at_hand{blocks_of(x_BSKD, plan.blocks(rank), plan.block_size())};
  for (const std::vector<int64_t>& received : exchange.receive) {
    at_hand.push_back(blocks_of(x_BSKD, received, plan.block_size()));
  }
  return blocks_of(at::cat(at_hand, 1), exchange.places, plan.block_size());
}

// The output of one rank's queries, computed step by step, without sinks.
AttentionOutput attend_steps(const AttentionInputs& whole, const BlockMask& mine) {
  const ContextShard& shard = context_shard(mine);
  const at::Tensor q = shard_tokens(whole.q_BTHD, shard.plan(), shard.rank(), 1);
  AttentionOutput sum;
  for (const ContextStep& step : shard.steps()) {
    if (!step.mask) continue;
    const at::Tensor k = exchanged(whole.k_BSKD, shard.plan(), shard.rank(), step.exchange);
    const at::Tensor v = exchanged(whole.v_BSKE, shard.plan(), shard.rank(), step.exchange);
    const AttentionOutput part = backend("eager")(q, k, v, *step.mask, {.return_lse = true});
    sum = sum.out_BTHE.defined() ? merge(sum, part) : part;
  }
  return sum;
}

// The outputs of all ranks' heads for the whole sequence, joined.
AttentionOutput attend_heads(const AttentionInputs& whole, const BlockMask& mask,
                             int64_t num_ranks) {
  const HeadExchange heads(whole.q_BTHD.size(2), whole.k_BSKD.size(2), num_ranks);
  std::vector<at::Tensor> outs;
  std::vector<at::Tensor> lses;
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    const TokenRange q = heads.query(rank);
    const TokenRange kv = heads.kv(rank);
    const AttentionOutput part = backend("eager")(
        whole.q_BTHD.narrow(2, q.begin, q.size()), whole.k_BSKD.narrow(2, kv.begin, kv.size()),
        whole.v_BSKE.narrow(2, kv.begin, kv.size()), mask.with_plan(nullptr), {.return_lse = true});
    outs.push_back(part.out_BTHE);
    lses.push_back(part.lse_BHT);
  }
  return {.out_BTHE = at::cat(outs, 2), .lse_BHT = at::cat(lses, 1)};
}

// The output that all ranks compute together, in the original order.
AttentionOutput attend_ranks(const AttentionInputs& whole, const BlockMask& mask,
                             const ShardPlan& plan, ContextMethod method) {
  if (method == ContextMethod::kAllToAll) {
    return attend_heads(whole, shard(mask, plan, 0, method), plan.num_ranks());
  }
  std::vector<at::Tensor> outs;
  std::vector<at::Tensor> lses;
  for (int64_t rank = 0; rank < plan.num_ranks(); ++rank) {
    AttentionOutput part = attend_steps(whole, shard(mask, plan, rank, method));
    outs.push_back(part.out_BTHE);
    lses.push_back(part.lse_BHT);
  }
  return {.out_BTHE = unshard_tokens(at::cat(outs, 1), plan, 1),
          .lse_BHT = unshard_tokens(at::cat(lses, 2), plan, 2)};
}

void expect_equal_to_one_rank(const AttentionInputs& inputs, const BlockMask& mask,
                              const ShardPlan& plan, ContextMethod method) {
  const AttentionInputs one = inputs.fresh();
  const AttentionInputs many = inputs.fresh();
  const AttentionOutput expected =
      backend("eager")(one.q_BTHD, one.k_BSKD, one.v_BSKE, mask, {.return_lse = true});
  const AttentionOutput actual = attend_ranks(many, mask, plan, method);
  constexpr double kTolerance = 1e-12;
  expect_close(actual.out_BTHE, expected.out_BTHE, kTolerance, 0, "out");
  expect_close(actual.lse_BHT, expected.lse_BHT, kTolerance, 0, "lse");
  const at::Tensor seen = expected.lse_BHT.isinf().logical_not();
  for (const AttentionOutput& output : {expected, actual}) {
    ((output.out_BTHE * inputs.d_out_BTHE).sum() + output.lse_BHT.masked_select(seen).sin().sum())
        .backward();
  }
  expect_close(many.q_BTHD.grad(), one.q_BTHD.grad(), kTolerance, 0, "dq");
  expect_close(many.k_BSKD.grad(), one.k_BSKD.grad(), kTolerance, 0, "dk");
  expect_close(many.v_BSKE.grad(), one.v_BSKE.grad(), kTolerance, 0, "dv");
}

TEST(ContextCases, Case14RanksTogetherEqualOne) {
  const AttentionInputs inputs = random_inputs({.q_len = 8, .kv_len = 8}, at::kDouble);
  const BlockMask mask = square_mask(causal() & document(ids_of({3, 5})), 8, 2);
  const ShardPlan plan(8, 2, head_tail_lists(4, 2));
  for (const ContextMethod method : kContextMethods) {
    SCOPED_TRACE(to_string(method));
    expect_equal_to_one_rank(inputs, mask, plan, method);
    expect_equal_to_one_rank(inputs, square_mask(causal(), 8, 2), plan, method);
  }
}

TEST(ContextCases, Case14RingSteps) {
  const BlockMask mask = square_mask(causal(), 8, 2);
  const ShardPlan plan(8, 2, head_tail_lists(4, 2));
  const at::Tensor causal_TS = square_mask(causal(), 4, 2).to_dense()[0][0];
  const auto dense = [&](int64_t rank, int64_t step) {
    const BlockMask mine = shard(mask, plan, rank, ContextMethod::kRing);
    return context_shard(mine).steps().at(step).mask->to_dense()[0][0];
  };
  EXPECT_TRUE(dense(0, 0).equal(causal_TS));
  EXPECT_TRUE(dense(1, 0).equal(causal_TS));
  at::Tensor second_half_of_queries = at::zeros({4, 4}, at::kBool);
  second_half_of_queries.narrow(0, 2, 2).fill_(true);
  EXPECT_TRUE(dense(0, 1).equal(second_half_of_queries));
  at::Tensor first_half_of_keys = at::zeros({4, 4}, at::kBool);
  first_half_of_keys.narrow(1, 0, 2).fill_(true);
  EXPECT_TRUE(dense(1, 1).equal(first_half_of_keys));
}

// Ring steps of packed documents meet rows without a key, first and last.
TEST(ContextCases, Case15MergeOfEmptyParts) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto part = [](double out, double lse) {
    return AttentionOutput{.out_BTHE = at::full({1, 1, 1, 1}, out, at::kDouble),
                           .lse_BHT = at::full({1, 1, 1}, lse, at::kDouble)};
  };
  const auto expect_merge = [&](const AttentionOutput& a, const AttentionOutput& b, double out,
                                double lse) {
    const AttentionOutput both = merge(a, b);
    EXPECT_NEAR(both.out_BTHE.item<double>(), out, 1e-15);
    if (std::isinf(lse)) {
      EXPECT_EQ(both.lse_BHT.item<double>(), lse);
    } else {
      EXPECT_NEAR(both.lse_BHT.item<double>(), lse, 1e-15);
    }
  };
  expect_merge(part(1, 0), part(5, std::log(3.0)), 4, std::log(4.0));
  expect_merge(part(0, -kInfinity), part(5, 2), 5, 2);
  expect_merge(part(0, -kInfinity), part(0, -kInfinity), 0, -kInfinity);
  // Rows without a key, through a ring: document 2 begins on another rank than document 1.
  AttentionInputs inputs = random_inputs({.q_len = 8, .kv_len = 8}, at::kDouble);
  const BlockMask mask = square_mask(document(ids_of({4, 4})) & ~causal(), 8, 2);
  expect_equal_to_one_rank(inputs, mask, ShardPlan(8, 2, {{0, 2}, {1, 3}}), ContextMethod::kRing);
}

// q = 0: the scores are 0, so lse counts the visible keys and outputs are their mean.
TEST(ContextCases, Case16CountsAndSinks) {
  AttentionInputs inputs;
  inputs.q_BTHD = at::zeros({1, 8, 1, 1}, at::kDouble);
  inputs.k_BSKD = at::ones({1, 8, 1, 1}, at::kDouble);
  inputs.v_BSKE = at::arange(8, at::kDouble).view({1, 8, 1, 1});
  const ShardPlan plan(8, 2, head_tail_lists(4, 2));
  const at::Tensor counts = at::arange(1, 9, at::kDouble);
  const at::Tensor documents_counts = at::cat({counts.narrow(0, 0, 3), counts.narrow(0, 0, 5)});
  const at::Tensor documents_out =
      at::tensor({0.0, 0.5, 1.0, 3.0, 3.5, 4.0, 4.5, 5.0}, at::kDouble);
  for (const ContextMethod method :
       {ContextMethod::kAllGather, ContextMethod::kRing, ContextMethod::kNeededKv}) {
    SCOPED_TRACE(to_string(method));
    const AttentionOutput causal_rows =
        attend_ranks(inputs, square_mask(causal(), 8, 2), plan, method);
    expect_close(causal_rows.lse_BHT.view({8}), counts.log(), 1e-15, 0, "lse");
    expect_close(causal_rows.out_BTHE.view({8}), (counts - 1) / 2, 1e-14, 0, "out");
    // A sink takes part once, after the last step: its factor is sigmoid(lse - sink).
    expect_close(causal_rows.lse_BHT.view({8}).sigmoid(), counts / (counts + 1), 1e-15, 0, "sink");
    const AttentionOutput packed =
        attend_ranks(inputs, square_mask(causal() & document(ids_of({3, 5})), 8, 2), plan, method);
    expect_close(packed.out_BTHE.view({8}), documents_out, 1e-14, 0, "documents");
    expect_close(packed.lse_BHT.view({8}), documents_counts.log(), 1e-15, 0, "documents' lse");
  }
}

TEST(ContextSimulationTest, EveryMethodMaskAndBalancer) {
  const AttentionInputs inputs = random_inputs({.q_len = 64, .kv_len = 64}, at::kDouble);
  for (const auto& [name, rule] : context_rules(64)) {
    const BlockMask mask = square_mask(rule, 64, 4);
    const BlockWork work = block_work({{"global", mask}}, 8);
    for (const int64_t num_ranks : {2, 4}) {
      for (const LoadBalancer balancer : {LoadBalancer::kContiguous, LoadBalancer::kHeadTail,
                                          LoadBalancer::kRoundRobin, LoadBalancer::kMinHeap}) {
        const ShardPlan plan = balance(balancer, work, num_ranks);
        for (const ContextMethod method : kContextMethods) {
          SCOPED_TRACE(name + ", " + to_string(balancer) + ", " + to_string(method) + ", " +
                       std::to_string(num_ranks) + " ranks");
          if (method == ContextMethod::kAllToAll && balancer != LoadBalancer::kContiguous) continue;
          expect_equal_to_one_rank(inputs, mask, plan, method);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera
