#include "parallel/context/plan/load_balance.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <queue>

#include "parallel/context/plan/fill_ranks.h"

namespace tessera {

namespace {

struct Name {
  LoadBalancer balancer;
  const char* name;
};

// The first name of a balancer is its own; the others are TorchTitan's.
constexpr std::array kNames{
    Name{LoadBalancer::kContiguous, "contiguous"},
    Name{LoadBalancer::kHeadTail, "head_tail"},
    Name{LoadBalancer::kHeadTail, "headtail"},
    Name{LoadBalancer::kDocumentHeadTail, "document_head_tail"},
    Name{LoadBalancer::kRoundRobin, "round_robin"},
    Name{LoadBalancer::kRoundRobin, "ptrr"},
    Name{LoadBalancer::kMinHeap, "min_heap"},
};

ShardPlan plan_of(const BlockWork& work, BlockLists lists) {
  return {work.seq_len, work.block_size, std::move(lists)};
}

ShardPlan document_plan(const BlockWork& work, int64_t num_ranks,
                        const std::vector<int64_t>& document_lengths) {
  std::vector<int64_t> lengths;  // in blocks
  for (const int64_t length : document_lengths) {
    TORCH_CHECK(length % work.block_size == 0, "document_head_tail: got a document of ", length,
                " tokens, expected a multiple of the blocks of ", work.block_size);
    lengths.push_back(length / work.block_size);
  }
  const int64_t sum = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  TORCH_CHECK(sum == work.num_blocks(), "document_head_tail: got documents of ",
              sum * work.block_size, " tokens in all, expected ", work.seq_len);
  return plan_of(work, document_head_tail_lists(lengths, num_ranks));
}

// Blocks by descending cost; blocks of equal cost by index.
std::vector<int64_t> costliest_first(const std::vector<double>& costs) {
  std::vector<int64_t> order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return costs[a] > costs[b]; });
  return order;
}

BlockLists plain_heap_lists(const std::vector<double>& costs, int64_t num_ranks) {
  using Load = std::pair<double, int64_t>;  // of a rank
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (int64_t rank = 0; rank < num_ranks; ++rank) loads.emplace(0.0, rank);
  const size_t blocks_per_rank = costs.size() / num_ranks;
  BlockLists lists(num_ranks);
  for (const int64_t block : costliest_first(costs)) {
    const auto [load, rank] = loads.top();
    loads.pop();
    lists[rank].push_back(block);
    if (lists[rank].size() < blocks_per_rank) loads.emplace(load + costs[block], rank);
  }
  return lists;
}

}  // namespace

LoadBalancer load_balancer(const std::string& name) {
  std::string names;
  for (const Name& known : kNames) {
    if (name == known.name) return known.balancer;
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  C10_THROW_ERROR(Error, "load balancer: got \"" + name + "\", expected one of: " + names);
}

std::string to_string(LoadBalancer balancer) {
  for (const Name& known : kNames) {
    if (balancer == known.balancer) return known.name;
  }
  TORCH_INTERNAL_ASSERT(false, "a load balancer without a name");
}

ShardPlan balance(LoadBalancer balancer, const BlockWork& work, int64_t num_ranks,
                  const std::vector<int64_t>& document_lengths) {
  check_shardable("context parallel", work.seq_len, work.block_size, num_ranks);
  switch (balancer) {
    case LoadBalancer::kContiguous:
      return contiguous_plan(work.seq_len, work.block_size, num_ranks);
    case LoadBalancer::kHeadTail:
      return plan_of(work, head_tail_lists(work.num_blocks(), num_ranks));
    case LoadBalancer::kDocumentHeadTail:
      return document_plan(work, num_ranks, document_lengths);
    case LoadBalancer::kRoundRobin:
      return plan_of(work, round_robin_lists(work.costs, num_ranks));
    case LoadBalancer::kMinHeap:
      return min_heap_plan(work, num_ranks);
  }
  TORCH_INTERNAL_ASSERT(false, "an unknown load balancer");
}

ShardPlan contiguous_plan(int64_t seq_len, int64_t block_size, int64_t num_ranks) {
  check_shardable("contiguous", seq_len, block_size, num_ranks);
  const int64_t blocks_per_rank = seq_len / block_size / num_ranks;
  BlockLists lists(num_ranks);
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    lists[rank].resize(blocks_per_rank);
    std::iota(lists[rank].begin(), lists[rank].end(), rank * blocks_per_rank);
  }
  return {seq_len, block_size, std::move(lists)};
}

BlockLists head_tail_lists(int64_t num_units, int64_t num_ranks) {
  TORCH_CHECK(num_ranks >= 1 && num_units >= 1 && num_units % (2 * num_ranks) == 0,
              "head_tail: got ", num_units, " blocks or tokens, expected a multiple of 2 x ",
              num_ranks, " ranks");
  return document_head_tail_lists({num_units}, num_ranks);
}

BlockLists document_head_tail_lists(const std::vector<int64_t>& lengths, int64_t num_ranks) {
  BlockLists lists(num_ranks);
  int64_t start = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    TORCH_CHECK(lengths[i] >= 1 && lengths[i] % (2 * num_ranks) == 0,
                "document_head_tail: document ", i, ": got a length of ", lengths[i],
                " blocks or tokens, expected a multiple of 2 x ", num_ranks, " ranks");
    const int64_t chunk = lengths[i] / (2 * num_ranks);
    for (int64_t rank = 0; rank < num_ranks; ++rank) {
      for (const int64_t piece : {rank, 2 * num_ranks - 1 - rank}) {
        for (int64_t unit = 0; unit < chunk; ++unit) {
          lists[rank].push_back(start + piece * chunk + unit);
        }
      }
    }
    start += lengths[i];
  }
  return lists;
}

BlockLists round_robin_lists(const std::vector<double>& costs, int64_t num_ranks) {
  const auto num_units = static_cast<int64_t>(costs.size());
  TORCH_CHECK(num_ranks >= 1 && num_units >= 1 && num_units % num_ranks == 0, "round_robin: got ",
              num_units, " blocks, expected a multiple of ", num_ranks, " ranks");
  const std::vector<int64_t> order = costliest_first(costs);
  BlockLists lists(num_ranks);
  for (int64_t i = 0; i < num_units; ++i) {
    const int64_t place = i % num_ranks;
    const bool backwards = i / num_ranks % 2 == 1;
    lists[backwards ? num_ranks - 1 - place : place].push_back(order[i]);
  }
  for (std::vector<int64_t>& list : lists) std::sort(list.begin(), list.end());
  return lists;
}

ShardPlan min_heap_plan(const BlockWork& work, int64_t num_ranks) {
  check_shardable("min_heap", work.seq_len, work.block_size, num_ranks);
  ShardPlan near =
      plan_of(work, fill_ranks(work, costliest_first(work.costs), num_ranks, kBalanceTolerance));
  if (imbalance(near, work) <= 1 + kBalanceTolerance) return near;
  ShardPlan heap = plan_of(work, plain_heap_lists(work.costs, num_ranks));
  return imbalance(heap, work) < imbalance(near, work) ? heap : near;
}

}  // namespace tessera
