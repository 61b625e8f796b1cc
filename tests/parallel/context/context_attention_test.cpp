// Context-parallel attention with ranks as threads, against one rank with the whole sequence.
//
// Shape legend: as in attention.h.
#include "parallel/context/context_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "parallel/context/plan/load_balance.h"
#include "parallel/segment.h"
#include "tests/parallel/context/plan/context_rules.h"
#include "tests/support/attention_results.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera {
namespace {

using testing::AttentionInputs;
using testing::AttentionResults;
using testing::backend;
using testing::context_rules;
using testing::expect_close;
using testing::expect_same;
using testing::ids_of;
using testing::kContextMethods;
using testing::kLoadBalancers;
using testing::leaf;
using testing::random_inputs;
using testing::run_attention;
using testing::run_ranks;
using testing::square_mask;

constexpr int64_t kTokens = 64;
constexpr int64_t kTile = 4;
constexpr int64_t kBlock = 8;

AttentionInputs shard_inputs(const AttentionInputs& whole, const ShardPlan& plan, int64_t rank) {
  const auto mine = [&](const at::Tensor& x) { return shard_tokens(x, plan, rank, 1); };
  return {leaf(mine(whole.q_BTHD)), leaf(mine(whole.k_BSKD)), leaf(mine(whole.v_BSKE)),
          mine(whole.d_out_BTHE)};
}

// Compares what `rank` gets with its share of what one rank gets.
void expect_share(const AttentionResults& mine, const AttentionResults& whole,
                  const ShardPlan& plan, int64_t rank, double tolerance) {
  const auto share = [&](const at::Tensor& x, int64_t dim) {
    return x.defined() ? shard_tokens(x, plan, rank, dim) : x;
  };
  expect_same(mine,
              {.out_BTHE = share(whole.out_BTHE, 1),
               .lse_BHT = share(whole.lse_BHT, 2),
               .dq_BTHD = share(whole.dq_BTHD, 1),
               .dk_BSKD = share(whole.dk_BSKD, 1),
               .dv_BSKE = share(whole.dv_BSKE, 1)},
              {.absolute = tolerance});
}

// One combination of mask, plan and method, with what one rank computes.
struct ContextCase {
  std::string name;
  BlockMask mask;
  ShardPlan plan;
  ContextMethod method;
  const AttentionResults* expected;
};

// Every mask with every balancer that admits it and every method. Expected results are kept in
// `results`, one for each mask.
std::vector<ContextCase> all_cases(const AttentionOp& op, const AttentionInputs& inputs,
                                   const AttentionOptions& options, int64_t num_ranks,
                                   std::map<std::string, AttentionResults>& results) {
  std::vector<ContextCase> cases;
  for (const auto& [name, rule] : context_rules(kTokens)) {
    const BlockMask mask = square_mask(rule, kTokens, kTile);
    results[name] = run_attention(op, inputs, mask, options);
    const BlockWork work = block_work({{"global", mask}}, kBlock);
    for (const LoadBalancer balancer : kLoadBalancers) {
      for (const ContextMethod method : kContextMethods) {
        cases.push_back({name + ", " + to_string(balancer) + ", " + to_string(method), mask,
                         balance(balancer, work, num_ranks), method, &results[name]});
      }
    }
  }
  return cases;
}

void expect_equal_to_one_rank(const std::string& inner, at::ScalarType dtype, int64_t num_ranks,
                              const AttentionOptions& options, double tolerance) {
  const AttentionInputs inputs = random_inputs({.q_len = kTokens, .kv_len = kTokens}, dtype);
  std::map<std::string, AttentionResults> results;
  const std::vector<ContextCase> cases =
      all_cases(backend(inner), inputs, options, num_ranks, results);
  run_ranks(num_ranks, [&](const World& world) {
    const AttentionOp op = wrap_context_parallel(backend(inner), world.all());
    for (const ContextCase& one : cases) {
      if (inner == "sdpa" && one.method == ContextMethod::kRing) continue;  // it gives no lse
      SCOPED_TRACE(one.name + ", rank " + std::to_string(world.rank()));
      const BlockMask mine = shard(one.mask, one.plan, world.rank(), one.method);
      expect_share(run_attention(op, shard_inputs(inputs, one.plan, world.rank()), mine, options),
                   *one.expected, one.plan, world.rank(), tolerance);
    }
  });
}

TEST(ContextAttentionTest, TwoRanksEqualOneInFloat64) {
  expect_equal_to_one_rank("eager", at::kDouble, 2, {.return_lse = true}, 1e-12);
}

TEST(ContextAttentionTest, FourRanksEqualOneInFloat64) {
  expect_equal_to_one_rank("eager", at::kDouble, 4, {.soft_cap = 5.0, .return_lse = true}, 1e-12);
}

TEST(ContextAttentionTest, FlexOnFourRanksEqualsOne) {
  expect_equal_to_one_rank("flex", at::kFloat, 4, {.return_lse = true}, 1e-5);
}

TEST(ContextAttentionTest, FlexOnTwoRanksEqualsOne) {
  expect_equal_to_one_rank("flex", at::kFloat, 2, {}, 1e-5);
}

TEST(ContextAttentionTest, SdpaOnTwoRanksEqualsOne) {
  expect_equal_to_one_rank("sdpa", at::kFloat, 2, {}, 1e-5);
}

TEST(ContextAttentionTest, SdpaOnFourRanksEqualsOne) {
  expect_equal_to_one_rank("sdpa", at::kFloat, 4, {}, 1e-5);
}

ShardPlan min_heap_of(const BlockMask& mask, int64_t num_ranks) {
  return min_heap_plan(block_work({{"global", mask}}, kBlock), num_ranks);
}

// A sink takes part once, however many steps there are; its gradient is summed over ranks.
TEST(ContextAttentionTest, SinksTakePartOnce) {
  const AttentionInputs inputs =
      random_inputs({.q_len = kTokens, .kv_len = kTokens, .value_dim = 6}, at::kDouble);
  const AttentionOptions options{.sinks_H = at::randn({4}, at::kDouble)};
  const BlockMask mask = square_mask(
      causal() & document(ids_of({5, 30, 29})) & sliding_window({.left = 20}), kTokens, kTile);
  const AttentionResults whole = run_attention("eager", inputs, mask, options);
  const ShardPlan plan = min_heap_of(mask, 4);
  for (const ContextMethod method : kContextMethods) {
    std::mutex mutex;
    at::Tensor d_sinks_H = at::zeros({4}, at::kDouble);
    run_ranks(4, [&](const World& world) {
      SCOPED_TRACE(to_string(method));
      const AttentionOp op = wrap_context_parallel(backend("eager"), world.all());
      const AttentionResults mine = run_attention(op, shard_inputs(inputs, plan, world.rank()),
                                                  shard(mask, plan, world.rank(), method), options);
      expect_share(mine, whole, plan, world.rank(), 1e-12);
      const std::lock_guard lock(mutex);
      d_sinks_H += mine.d_sinks_H;
    });
    expect_close(d_sinks_H, whole.d_sinks_H, 1e-12, 0, "d_sinks");
  }
}

// One key head for four ranks; rows of the batch with documents of their own; a mask of several
// heads, which all-to-all over heads refuses.
TEST(ContextAttentionTest, BatchRowsAndHeadsOfTheirOwn) {
  const AttentionInputs inputs =
      random_inputs({.batch = 2, .q_len = kTokens, .kv_len = kTokens, .kv_heads = 1}, at::kDouble);
  const at::Tensor ids_BT = at::stack({ids_of({10, 40, 14}), ids_of({33, 31})});
  const MaskMod rule = causal() & document(ids_BT);
  const BlockMask mask = square_mask(rule, kTokens, kTile, /*batch=*/2);
  const BlockMask by_head = create_block_mask(
      rule, {.batch = 2, .heads = 4, .q_len = kTokens, .kv_len = kTokens, .block = {kTile, kTile}});
  const AttentionResults whole = run_attention("eager", inputs, mask);
  const ShardPlan plan = min_heap_of(mask, 4);
  run_ranks(4, [&](const World& world) {
    const AttentionOp op = wrap_context_parallel(backend("eager"), world.all());
    const int64_t rank = world.rank();
    for (const ContextMethod method : kContextMethods) {
      SCOPED_TRACE(to_string(method));
      expect_share(
          run_attention(op, shard_inputs(inputs, plan, rank), shard(mask, plan, rank, method)),
          whole, plan, rank, 1e-12);
      const BlockMask mine = shard(by_head, plan, rank, method);
      if (method == ContextMethod::kAllToAll) {
        EXPECT_ERROR(run_attention(op, shard_inputs(inputs, plan, rank), mine), "mask heads: got 4",
                     "all_to_all");
      } else {
        expect_share(run_attention(op, shard_inputs(inputs, plan, rank), mine), whole, plan, rank,
                     1e-12);
      }
    }
  });
}

TEST(ContextAttentionTest, BytesAreThePlansCount) {
  const AttentionInputs inputs =
      random_inputs({.q_len = kTokens, .kv_len = kTokens, .value_dim = 6}, at::kFloat);
  const BlockMask mask = square_mask(causal() & document(ids_of({20, 11, 33})), kTokens, kTile);
  const ShardPlan plan = min_heap_of(mask, 4);
  const KvSizes sizes{.batch = 2, .kv_heads = 2, .key_dim = 8, .value_dim = 6, .element_size = 4};
  run_ranks(4, [&](const World& world) {
    const ProcessGroup group = world.all();
    const AttentionOp op = wrap_context_parallel(backend("flex"), group);
    for (const ContextMethod method : {ContextMethod::kNeededKv, ContextMethod::kRing}) {
      SCOPED_TRACE(to_string(method));
      const BlockMask mine = shard(mask, plan, world.rank(), method);
      int64_t num_sent = 0;
      int64_t num_received = 0;
      for (const ContextStep& step : context_shard(mine).steps()) {
        num_sent += step.exchange.num_sent();
        num_received += step.exchange.num_received();
      }
      const AttentionInputs own = shard_inputs(inputs, plan, world.rank());
      const int64_t start = group.counters().num_bytes_sent;
      const AttentionOutput output = op(own.q_BTHD, own.k_BSKD, own.v_BSKE, mine);
      EXPECT_EQ(group.counters().num_bytes_sent - start, kv_bytes(num_sent, plan, sizes));
      (output.out_BTHE * own.d_out_BTHE).sum().backward();
      EXPECT_EQ(group.counters().num_bytes_sent - start,
                kv_bytes(num_sent + num_received, plan, sizes));
    }
  });
}

// Every document lies on one rank: nothing travels.
TEST(ContextAttentionTest, EmptyStepsAreSkipped) {
  const AttentionInputs inputs = random_inputs({.q_len = kTokens, .kv_len = kTokens}, at::kDouble);
  const BlockMask mask = square_mask(causal() & document(ids_of({16, 16, 16, 16})), kTokens, kTile);
  const AttentionResults whole = run_attention("eager", inputs, mask);
  const ShardPlan plan = contiguous_plan(kTokens, kBlock, 4);
  run_ranks(4, [&](const World& world) {
    const ProcessGroup group = world.all();
    const AttentionOp op = wrap_context_parallel(backend("eager"), group);
    for (const ContextMethod method : {ContextMethod::kRing, ContextMethod::kNeededKv}) {
      SCOPED_TRACE(to_string(method));
      const BlockMask mine = shard(mask, plan, world.rank(), method);
      expect_share(run_attention(op, shard_inputs(inputs, plan, world.rank()), mine), whole, plan,
                   world.rank(), 1e-12);
      EXPECT_EQ(group.counters().num_bytes_sent, 0);
    }
  });
}

// Rank 1 sees no key at all, and others see none of its keys.
TEST(ContextAttentionTest, RowsWithoutAKeyGiveZero) {
  const AttentionInputs inputs = random_inputs({.q_len = kTokens, .kv_len = kTokens}, at::kDouble);
  at::Tensor ids_T = at::zeros({kTokens}, at::kLong);
  ids_T.narrow(0, 16, 16).fill_(-1);
  const BlockMask mask = square_mask(causal() & block_ids(ids_T), kTokens, kTile);
  const AttentionOptions options{.sinks_H = at::zeros({4}, at::kDouble), .return_lse = true};
  const AttentionResults whole = run_attention("eager", inputs, mask, options);
  const ShardPlan plan = contiguous_plan(kTokens, kBlock, 4);
  run_ranks(4, [&](const World& world) {
    const AttentionOp op = wrap_context_parallel(backend("eager"), world.all());
    for (const ContextMethod method : kContextMethods) {
      SCOPED_TRACE(to_string(method));
      const AttentionResults mine = run_attention(op, shard_inputs(inputs, plan, world.rank()),
                                                  shard(mask, plan, world.rank(), method), options);
      expect_share(mine, whole, plan, world.rank(), 1e-12);
      if (world.rank() != 1) continue;
      for (const at::Tensor& x : {mine.out_BTHE, mine.dq_BTHD, mine.dk_BSKD, mine.dv_BSKE}) {
        testing::expect_zero_and_finite(x, "rank 1");
      }
    }
  });
}

// Recomputation fetches the keys again; without gradients nothing is kept.
TEST(ContextAttentionTest, WorksInsideSegments) {
  const AttentionInputs inputs =
      random_inputs({.q_len = kTokens, .kv_len = kTokens, .kv_heads = 4}, at::kDouble);
  const BlockMask mask = square_mask(causal() & document(ids_of({20, 44})), kTokens, kTile);
  const ShardPlan plan = min_heap_of(mask, 2);
  run_ranks(2, [&](const World& world) {
    const AttentionOp op = wrap_context_parallel(backend("eager"), world.all());
    for (const ContextMethod method : kContextMethods) {
      SCOPED_TRACE(to_string(method));
      const BlockMask mine = shard(mask, plan, world.rank(), method);
      const at::Tensor x_BTHD = shard_tokens(inputs.q_BTHD, plan, world.rank(), 1).detach();
      const auto self_attention = [&](const at::Tensor& x) { return op(x, x, x, mine).out_BTHE; };
      const at::Tensor plain = leaf(x_BTHD);
      const at::Tensor expected = self_attention(plain);
      expected.square().sum().backward();
      const at::Tensor recomputed = leaf(x_BTHD);
      Block block;
      block.name = "layer";
      block.recompute = true;
      const at::Tensor actual = run_segment(block, recomputed, self_attention);
      actual.square().sum().backward();
      EXPECT_TRUE(actual.equal(expected));
      EXPECT_TRUE(recomputed.grad().equal(plain.grad()));
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(self_attention(plain).equal(expected));
    }
  });
}

TEST(ContextAttentionTest, RefusesWhatItCannotDo) {
  const AttentionInputs inputs = random_inputs({.q_len = 32, .kv_len = 32}, at::kFloat);
  const BlockMask whole = square_mask(causal(), 32, kTile);
  const ShardPlan plan = contiguous_plan(32, kBlock, 2);
  run_ranks(2, [&](const World& world) {
    const BlockMask mask = shard(whole, plan, world.rank(), ContextMethod::kRing);
    const AttentionInputs mine = shard_inputs(inputs, plan, world.rank());
    const auto attend_with = [&](const AttentionOp& op, const BlockMask& with,
                                 const AttentionOptions& options = {}) {
      op(mine.q_BTHD, mine.k_BSKD, mine.v_BSKE, with, options);
    };
    EXPECT_ERROR(attend_with(backend("flex"), mask), "flex", "context plan", "of 2 ranks x 2");
    const AttentionOp op = wrap_context_parallel(backend("flex"), world.all());
    EXPECT_EQ(op.name(), "context(flex)");
    EXPECT_ERROR(attend_with(op, whole), "context(flex)", "without a plan");
    EXPECT_ERROR(attend_with(op, mask, {.bias_BHTS = at::zeros({1, 1, 16, 32})}), "bias_BHTS");
    EXPECT_ERROR(attend_with(op, mask, {.alibi_slopes_H = at::zeros({4})}), "alibi_slopes_H");
    EXPECT_ERROR(attend_with(op, mask, {.return_weights = true}), "return_weights");
    EXPECT_ERROR(op(inputs.q_BTHD, inputs.k_BSKD, inputs.v_BSKE, mask), "32", "lengths of 16");
    const BlockMask other = shard(whole, plan, 1 - world.rank(), ContextMethod::kRing);
    EXPECT_ERROR(attend_with(op, other), "context attention: group", "of 2 ranks");
    const AttentionOp single = wrap_context_parallel(backend("flex"), ProcessGroup());
    EXPECT_ERROR(attend_with(single, mask), "rank 0 of 1", "2 ranks");
  });
}

// A ring merges by lse, which sdpa does not give: refused by name, on the rank alone.
TEST(ContextAttentionTest, ARingNeedsLse) {
  const AttentionInputs inputs = random_inputs({.q_len = 8, .kv_len = 8}, at::kFloat);
  const BlockMask whole = square_mask(causal() & document(ids_of({4, 4})), 8, kTile);
  const ShardPlan plan = contiguous_plan(8, 4, 2);
  run_ranks(2, [&](const World& world) {
    const AttentionOp sdpa = wrap_context_parallel(backend("sdpa"), world.all());
    const AttentionInputs mine = shard_inputs(inputs, plan, world.rank());
    EXPECT_ERROR(sdpa(mine.q_BTHD, mine.k_BSKD, mine.v_BSKE,
                      shard(whole, plan, world.rank(), ContextMethod::kRing)),
                 "\"sdpa\"", "return_lse", "flex");
  });
}

TEST(ContextAttentionTest, OneRankIsTheIdentity) {
  const AttentionInputs inputs = random_inputs({.q_len = 32, .kv_len = 32}, at::kDouble);
  const BlockMask mask = square_mask(causal() & document(ids_of({20, 12})), 32, kTile);
  const AttentionResults whole = run_attention("eager", inputs, mask, {.return_lse = true});
  const ShardPlan plan = contiguous_plan(32, kBlock, 1);
  const AttentionOp op = wrap_context_parallel(backend("eager"), ProcessGroup());
  for (const ContextMethod method : kContextMethods) {
    const AttentionResults mine =
        run_attention(op, inputs, shard(mask, plan, 0, method), {.return_lse = true});
    expect_share(mine, whole, plan, 0, 0);
  }
}

}  // namespace
}  // namespace tessera
