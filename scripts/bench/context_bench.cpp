// Context parallelism over packed rows, simulated for many ranks and measured on two, one JSON
// object per row on stdout. Run by scripts/bench/context.
//
//   bench_context DOCUMENT_LENGTHS.json
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <time.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "attention/op/autograd.h"
#include "attention/registry/registry.h"
#include "parallel/context/context_attention.h"
#include "parallel/context/plan/kv_exchange.h"
#include "parallel/context/plan/load_balance.h"
#include "tests/support/run_ranks.h"

namespace {

using nlohmann::json;
using tessera::BlockMask;
using tessera::BlockWork;
using tessera::LoadBalancer;
using tessera::ShardPlan;
using tessera::World;

constexpr int64_t kBlock = 512;
constexpr int64_t kTokensPerRank = 8192;

at::Tensor document_ids(const std::vector<int64_t>& lengths, int64_t tokens) {
  at::Tensor ids_T = at::empty({tokens}, at::kLong);
  int64_t* ids = ids_T.mutable_data_ptr<int64_t>();
  int64_t at = 0;
  for (int64_t id = 0; at < tokens; ++id) {
    const int64_t end = std::min(at + lengths[id], tokens);
    std::fill(ids + at, ids + end, id);
    at = end;
  }
  return ids_T;
}

// The time of the best of several calls, in milliseconds.
template <typename Work>
double best_ms(Work work) {
  double best = 1e9;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(
        best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                  .count());
  }
  return best;
}

// The blocks of keys that come from other ranks, as a share of those of an all-gather.
double moved_share(const ShardPlan& plan, const BlockMask& mask) {
  const int64_t moved = num_moved_blocks(plan, needed_kv_by_rank(mask, plan));
  const int64_t all = plan.num_ranks() * (plan.num_blocks() - plan.blocks_per_rank());
  return static_cast<double>(moved) / static_cast<double>(all);
}

// The fewest ranks that can hold the blocks that read block `key` when no rank may exceed `limit`:
// their cost and number must fit, and the other ranks, with the costliest blocks that do not read
// it, must carry the rest.
int64_t fewest_readers(const BlockWork& work, int64_t key, double limit, int64_t num_ranks) {
  const int64_t blocks_per_rank = work.num_blocks() / num_ranks;
  double cost = 0;
  double total = 0;
  int64_t count = 0;
  std::vector<double> others;
  for (int64_t block = 0; block < work.num_blocks(); ++block) {
    total += work.costs[block];
    bool reads = false;
    for (const auto& range : work.reads[0].of_block[block]) {
      reads = reads || (range.begin <= key && key < range.end);
    }
    cost += reads ? work.costs[block] : 0;
    count += reads ? 1 : 0;
    if (!reads) others.push_back(work.costs[block]);
  }
  std::sort(others.begin(), others.end(), std::greater<>());
  for (int64_t readers = 0; readers < num_ranks; ++readers) {
    const auto room = std::min<size_t>((num_ranks - readers) * blocks_per_rank, others.size());
    double rest = 0;
    for (size_t i = 0; i < room; ++i) rest += others[i];
    const double most = static_cast<double>(readers) * limit;
    if (cost <= most && count <= readers * blocks_per_rank && rest + most >= total) return readers;
  }
  return num_ranks;
}

// A lower bound of moved_share: no plan with imbalance <= 1.01 moves a smaller share.
double lower_bound(const BlockWork& work, int64_t num_ranks) {
  double total = 0;
  for (const double cost : work.costs) total += cost;
  const double limit = 1.01 * total / static_cast<double>(num_ranks);
  int64_t moved = 0;
  for (int64_t key = 0; key < work.num_blocks(); ++key) {
    moved += std::max<int64_t>(fewest_readers(work, key, limit, num_ranks) - 1, 0);
  }
  const int64_t all = num_ranks * (work.num_blocks() - work.num_blocks() / num_ranks);
  return static_cast<double>(moved) / static_cast<double>(all);
}

json report(const json& row) {
  const int64_t tokens = row["total"];
  const int64_t num_ranks = tokens / kTokensPerRank;
  const tessera::MaskMod rule =
      tessera::causal() & tessera::document(document_ids(row["lengths"], tokens));
  const tessera::MaskShape shape{.q_len = tokens, .kv_len = tokens};
  const BlockMask mask = create_block_mask(rule, shape);
  const tessera::AttentionMasks masks{{"global", mask}};
  const BlockWork work = block_work(masks, kBlock);
  json record = {{"tokens", tokens}, {"ranks", num_ranks}, {"sample", row["sample"]}};
  for (const LoadBalancer balancer : {LoadBalancer::kContiguous, LoadBalancer::kHeadTail,
                                      LoadBalancer::kRoundRobin, LoadBalancer::kMinHeap}) {
    const ShardPlan plan = balance(balancer, work, num_ranks);
    record[to_string(balancer)] = {{"imbalance", imbalance(plan, work)},
                                   {"kv_moved", moved_share(plan, mask)}};
  }
  const ShardPlan plan = min_heap_plan(work, num_ranks);
  record["kv_moved_lower_bound"] = lower_bound(work, num_ranks);
  record["work_ms"] = best_ms([&] { block_work(masks, kBlock); });
  record["min_heap_ms"] = best_ms([&] { min_heap_plan(work, num_ranks); });
  record["exchange_ms"] =
      best_ms([&] { needed_kv_exchange(plan, 0, needed_kv_by_rank(mask, plan)); });
  record["planning_ms"] = record["work_ms"].get<double>() + record["min_heap_ms"].get<double>() +
                          record["exchange_ms"].get<double>();
  record["mask_ms"] = best_ms([&] { create_block_mask(rule, shape); });
  return record;
}

double thread_cpu_s() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The processor time of a rank's attention in seconds, forward and backward with all that the
// exchange of keys costs it. The best of several runs, in float32 with flex, 8 heads, 2 key heads,
// 64 numbers a head.
double attention_cpu_s(const World& world, const BlockMask& mask, const ShardPlan& plan) {
  const tessera::AttentionOp attend =
      wrap_context_parallel(tessera::AttentionRegistry::with_builtins().make("flex"), world.all());
  const BlockMask mine = shard(mask, plan, world.rank(), tessera::ContextMethod::kNeededKv);
  const int64_t T = plan.tokens_per_rank();
  const at::Tensor q_BTHD = at::randn({1, T, 8, 64}).requires_grad_();
  const at::Tensor k_BTKD = at::randn({1, T, 2, 64}).requires_grad_();
  const at::Tensor v_BTKD = at::randn({1, T, 2, 64}).requires_grad_();
  const at::Tensor d_out_BTHD = at::randn({1, T, 8, 64});
  double best = 1e9;
  for (int i = 0; i < 15; ++i) {
    world.all().barrier();
    const double start = thread_cpu_s();
    const at::Tensor out_BTHD = attend(q_BTHD, k_BTKD, v_BTKD, mine, {}).out_BTHE;
    run_backward({out_BTHD}, {d_out_BTHD});
    best = std::min(best, thread_cpu_s() - start);
  }
  return best;
}

// The live pairs of each rank: in full tiles with `full`, else in partial tiles.
std::vector<double> pairs_of(const BlockMask& mask, const ShardPlan& plan, bool full) {
  const BlockWork work =
      tessera::block_work({{"global", mask}}, kBlock,
                          {.full_pair = full ? 1.0 : 0.0, .partial_pair = full ? 0.0 : 1.0});
  std::vector<double> pairs(static_cast<size_t>(plan.num_ranks()), 0.0);
  for (int64_t block = 0; block < plan.num_blocks(); ++block) {
    pairs[static_cast<size_t>(plan.owner(block))] += work.costs[static_cast<size_t>(block)];
  }
  return pairs;
}

// Measures the beginning of a row, as long as two ranks hold.
json measure_two_ranks(const json& row) {
  const int64_t tokens = 2 * kTokensPerRank;
  const BlockMask mask =
      create_block_mask(tessera::causal() & tessera::document(document_ids(row["lengths"], tokens)),
                        {.q_len = tokens, .kv_len = tokens});
  const BlockWork work = tessera::block_work({{"global", mask}}, kBlock);
  json record = {{"measured", true}, {"tokens", tokens}, {"ranks", 2}, {"sample", row["sample"]}};
  for (const LoadBalancer balancer : {LoadBalancer::kContiguous, LoadBalancer::kMinHeap}) {
    const ShardPlan plan = balance(balancer, work, 2);
    std::vector<double> cpu_s(2);
    tessera::testing::run_ranks(2, [&](const World& world) {
      cpu_s[static_cast<size_t>(world.rank())] = attention_cpu_s(world, mask, plan);
    });
    record[to_string(balancer)] = {
        {"imbalance", imbalance(plan, work)},
        {"full_pairs", pairs_of(mask, plan, true)},
        {"partial_pairs", pairs_of(mask, plan, false)},
        {"cpu_s", cpu_s},
        {"cpu_ratio", std::max(cpu_s[0], cpu_s[1]) / std::min(cpu_s[0], cpu_s[1])}};
  }
  return record;
}

int run(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: bench_context DOCUMENT_LENGTHS.json\n";
    return 2;
  }
  at::set_num_threads(1);
  const json rows = json::parse(std::ifstream(argv[1]))["rows"];
  for (const json& row : rows) {
    if (row["total"].get<int64_t>() == (1 << 16)) {
      std::cout << measure_two_ranks(row).dump() << std::endl;
    }
    if (row["total"].get<int64_t>() <= (1 << 19)) std::cout << report(row).dump() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
