#include "parallel/context/plan/load_balance.h"

#include <gtest/gtest.h>

#include "parallel/context/plan/kv_exchange.h"
#include "tests/parallel/context/plan/packed_documents.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using testing::ids_of;
using testing::packed_lengths;
using testing::square_mask;
using Blocks = std::vector<int64_t>;

BlockWork work_of(const MaskMod& rule, int64_t seq_len, int64_t block) {
  return block_work({{"global", square_mask(rule, seq_len, block)}}, block);
}

Blocks costs_of(const BlockLists& lists, const std::vector<double>& costs) {
  Blocks sums;
  for (const Blocks& list : lists) {
    double sum = 0;
    for (const int64_t block : list) sum += costs[block];
    sums.push_back(static_cast<int64_t>(sum));
  }
  return sums;
}

// Blocks of one token, so that blocks are upstream's tokens.
TEST(ContextCases, Case9HeadTailWork) {
  const BlockWork work = work_of(causal(), 8, 1);
  EXPECT_EQ(costs_of(head_tail_lists(8, 2), work.costs), (Blocks{18, 18}));
  EXPECT_EQ(costs_of(contiguous_plan(8, 1, 2).blocks(), work.costs), (Blocks{10, 26}));
  EXPECT_DOUBLE_EQ(imbalance(contiguous_plan(8, 1, 2), work), 26.0 / 18);
  EXPECT_EQ(balance(LoadBalancer::kHeadTail, work, 2).blocks(0), (Blocks{0, 1, 6, 7}));
}

TEST(ContextCases, Case10DocumentHeadTailWork) {
  const BlockWork three = work_of(causal() & document(ids_of({4, 8, 4})), 16, 1);
  EXPECT_EQ(costs_of(document_head_tail_lists({4, 8, 4}, 2), three.costs), (Blocks{28, 28}));
  const BlockWork two = work_of(causal() & document(ids_of({4, 12})), 16, 1);
  EXPECT_EQ(costs_of(document_head_tail_lists({4, 12}, 2), two.costs), (Blocks{44, 44}));
  EXPECT_EQ(balance(LoadBalancer::kDocumentHeadTail, two, 2, {4, 12}).blocks(0),
            (Blocks{0, 3, 4, 5, 6, 13, 14, 15}));
}

TEST(ContextCases, Case11RoundRobin) {
  const std::vector<double> uneven{9, 14, 2, 20, 10, 15, 8, 14, 16, 19, 15, 3, 12, 1, 12, 10};
  const BlockLists four = round_robin_lists(uneven, 4);
  EXPECT_EQ(four, (BlockLists{{3, 12, 13, 14}, {2, 4, 7, 9}, {1, 8, 11, 15}, {0, 5, 6, 10}}));
  EXPECT_EQ(costs_of(four, uneven), (Blocks{45, 45, 43, 47}));
  const std::vector<double> documents{1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4};
  const BlockLists two = round_robin_lists(documents, 2);
  EXPECT_EQ(two, (BlockLists{{2, 3, 5, 6, 8, 11, 12, 13}, {0, 1, 4, 7, 9, 10, 14, 15}}));
  EXPECT_EQ(costs_of(two, documents), (Blocks{28, 28}));
  EXPECT_EQ(balance(LoadBalancer::kRoundRobin, work_of(causal(), 32, 4), 4).blocks(),
            (BlockLists{{0, 7}, {1, 6}, {2, 5}, {3, 4}}));
  EXPECT_ERROR(round_robin_lists(std::vector<double>(7, 1), 2), "got 7 blocks", "multiple of 2");
}

TEST(LoadBalanceTest, NamesAreReadAndWritten) {
  for (const char* name :
       {"contiguous", "head_tail", "document_head_tail", "round_robin", "min_heap"}) {
    EXPECT_EQ(to_string(load_balancer(name)), name);
  }
  EXPECT_EQ(load_balancer("headtail"), LoadBalancer::kHeadTail);
  EXPECT_EQ(load_balancer("ptrr"), LoadBalancer::kRoundRobin);
  EXPECT_ERROR(load_balancer("heap"), "\"heap\"", "contiguous, head_tail", "ptrr, min_heap");
}

TEST(LoadBalanceTest, RefusesWithNumbers) {
  const BlockWork work = work_of(causal(), 24, 4);
  for (const LoadBalancer balancer : {LoadBalancer::kContiguous, LoadBalancer::kMinHeap}) {
    EXPECT_ERROR(balance(balancer, work, 4), "24 tokens", "multiple of 16", "4 ranks");
    EXPECT_ERROR(balance(balancer, work, 7), "blocks of 4", "3 tokens", "24 over 7 ranks");
  }
  EXPECT_ERROR(balance(LoadBalancer::kHeadTail, work, 2), "head_tail: got 6", "2 x 2 ranks");
  EXPECT_ERROR(balance(LoadBalancer::kDocumentHeadTail, work, 2, {16, 8}), "document 1",
               "length of 2", "2 x 2 ranks");
  EXPECT_ERROR(balance(LoadBalancer::kDocumentHeadTail, work, 2, {18, 6}), "document of 18 tokens",
               "blocks of 4");
  EXPECT_ERROR(balance(LoadBalancer::kDocumentHeadTail, work, 2, {16}), "16 tokens in all",
               "expected 24");
}

int64_t moved(const ShardPlan& plan, const BlockMask& mask) {
  return num_moved_blocks(plan, needed_kv_by_rank(mask, plan));
}

TEST(LoadBalanceTest, MinHeapIsEvenAndMovesFewKeys) {
  constexpr int64_t kTokens = 16384;
  constexpr int64_t kBlock = 64;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const MaskMod rule = causal() & document(ids_of(packed_lengths(seed, kTokens)));
    const BlockMask mask = square_mask(rule, kTokens, kBlock);
    const BlockWork work = block_work({{"global", mask}}, kBlock);
    for (const int64_t num_ranks : {2, 4, 8, 16}) {
      const ShardPlan plan = min_heap_plan(work, num_ranks);
      EXPECT_LE(imbalance(plan, work), 1.01);
      const ShardPlan dealt = balance(LoadBalancer::kRoundRobin, work, num_ranks);
      EXPECT_LT(moved(plan, mask), moved(dealt, mask));
    }
  }
}

TEST(LoadBalanceTest, MinHeapIsEvenOnOtherMasks) {
  const std::vector<MaskMod> rules{causal(), full(), causal() & sliding_window({.left = 500}),
                                   causal() & chunked(700), causal() | first_tokens(900)};
  for (const MaskMod& rule : rules) {
    SCOPED_TRACE(rule.to_string());
    const BlockWork work = work_of(rule, 4096, 32);
    for (const int64_t num_ranks : {2, 4, 8}) {
      EXPECT_LE(imbalance(min_heap_plan(work, num_ranks), work), 1.01);
    }
  }
}

// No plan is even here; the plan is then no worse than the heap's.
TEST(LoadBalanceTest, MinHeapTakesWhatItGets) {
  BlockWork work{.seq_len = 8, .block_size = 1, .costs = {100, 1, 1, 1, 1, 1, 1, 0}};
  work.reads.push_back({.of_block = std::vector<RangeSet>(8)});
  const ShardPlan plan = min_heap_plan(work, 2);
  EXPECT_DOUBLE_EQ(imbalance(plan, work), 102.0 / 53);
  work.costs.assign(8, 0);
  EXPECT_DOUBLE_EQ(imbalance(min_heap_plan(work, 4), work), 1);
}

}  // namespace
}  // namespace tessera
