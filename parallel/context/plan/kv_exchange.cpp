#include "parallel/context/plan/kv_exchange.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>

#include "parallel/context/plan/block_work.h"

namespace tessera {

namespace {

int64_t count(const BlockLists& lists) {
  int64_t sum = 0;
  for (const std::vector<int64_t>& list : lists) sum += static_cast<int64_t>(list.size());
  return sum;
}

// The members of `blocks` that `owner` holds, in their order.
std::vector<int64_t> held_by(const ShardPlan& plan, int64_t owner,
                             const std::vector<int64_t>& blocks) {
  std::vector<int64_t> held;
  for (const int64_t block : blocks) {
    if (plan.owner(block) == owner) held.push_back(block);
  }
  return held;
}

void check_needed(const char* caller, const ShardPlan& plan, int64_t rank,
                  const BlockLists& needed_by_rank) {
  TORCH_CHECK(rank >= 0 && rank < plan.num_ranks(), caller, ": rank: got ", rank,
              ", expected 0 to ", plan.num_ranks() - 1);
  TORCH_CHECK(static_cast<int64_t>(needed_by_rank.size()) == plan.num_ranks(), caller,
              ": needed_by_rank: got ", needed_by_rank.size(), " lists, expected ",
              plan.num_ranks());
  for (const std::vector<int64_t>& needed : needed_by_rank) {
    for (const int64_t block : needed) {
      TORCH_CHECK(block >= 0 && block < plan.num_blocks(), caller, ": needed_by_rank: got block ",
                  block, ", expected 0 to ", plan.num_blocks() - 1);
    }
  }
}

// Fills `kv_blocks` (the blocks that are received, and own ones if asked for) and their places.
void order_blocks(const ShardPlan& plan, int64_t rank, bool own, KvExchange& exchange) {
  std::vector<std::pair<int64_t, int64_t>> blocks;  // (block, place)
  if (own) {
    for (const int64_t block : plan.blocks(rank)) blocks.emplace_back(block, plan.slot(block));
  }
  int64_t place = plan.blocks_per_rank();
  for (const std::vector<int64_t>& list : exchange.receive) {
    for (const int64_t block : list) blocks.emplace_back(block, place++);
  }
  std::sort(blocks.begin(), blocks.end());
  for (const auto& [block, at] : blocks) {
    exchange.kv_blocks.push_back(block);
    exchange.places.push_back(at);
  }
}

// All key blocks that the queries of these blocks read.
std::vector<int64_t> union_of(const std::vector<RangeSet>& reads,
                              const std::vector<int64_t>& q_blocks) {
  std::vector<char> read(reads.size(), 0);
  for (const int64_t q_block : q_blocks) {
    for (const TokenRange& range : reads[q_block]) {
      std::fill(read.begin() + range.begin, read.begin() + range.end, 1);
    }
  }
  std::vector<int64_t> blocks;
  for (size_t block = 0; block < read.size(); ++block) {
    if (read[block] != 0) blocks.push_back(static_cast<int64_t>(block));
  }
  return blocks;
}

}  // namespace

int64_t KvExchange::num_sent() const { return count(send); }
int64_t KvExchange::num_received() const { return count(receive); }

std::vector<int64_t> needed_kv_blocks(const BlockMask& rows, const ShardPlan& plan) {
  const MaskShape& shape = rows.shape();
  TORCH_CHECK(shape.q_len == plan.tokens_per_rank() && shape.kv_len == plan.seq_len(),
              "needed_kv_blocks: got a mask of ", shape.q_len, " x ", shape.kv_len, ", expected ",
              plan.tokens_per_rank(), " x ", plan.seq_len(), " (", plan.to_string(), ")");
  TORCH_CHECK(plan.block_size() % shape.block.kv == 0, "needed_kv_blocks: got tiles of ",
              shape.block.kv, " keys, expected a divisor of the plan's blocks of ",
              plan.block_size());
  const auto tiles_per_block = static_cast<int32_t>(plan.block_size() / shape.block.kv);
  std::vector<char> read(plan.num_blocks(), 0);
  for (const BlockRun& run : rows.data().runs) {
    std::fill(read.begin() + run.begin / tiles_per_block,
              read.begin() + (run.end - 1) / tiles_per_block + 1, 1);
  }
  std::vector<int64_t> blocks;
  for (int64_t block = 0; block < plan.num_blocks(); ++block) {
    if (read[block] != 0) blocks.push_back(block);
  }
  return blocks;
}

BlockLists needed_kv_by_rank(const BlockMask& whole, const ShardPlan& plan) {
  check_mask_blocks("needed_kv_by_rank", whole, plan.seq_len(), plan.block_size());
  const std::vector<RangeSet> reads = block_reads(whole, plan.block_size());
  BlockLists needed;
  for (const std::vector<int64_t>& mine : plan.blocks()) needed.push_back(union_of(reads, mine));
  return needed;
}

int64_t num_moved_blocks(const ShardPlan& plan, const BlockLists& needed_by_rank) {
  check_needed("num_moved_blocks", plan, 0, needed_by_rank);
  int64_t moved = 0;
  for (int64_t rank = 0; rank < plan.num_ranks(); ++rank) {
    for (const int64_t block : needed_by_rank[rank]) moved += plan.owner(block) != rank ? 1 : 0;
  }
  return moved;
}

KvExchange needed_kv_exchange(const ShardPlan& plan, int64_t rank,
                              const BlockLists& needed_by_rank) {
  check_needed("needed_kv_exchange", plan, rank, needed_by_rank);
  KvExchange exchange{.send = BlockLists(plan.num_ranks()),
                      .receive = BlockLists(plan.num_ranks())};
  for (int64_t peer = 0; peer < plan.num_ranks(); ++peer) {
    if (peer == rank) continue;
    exchange.send[peer] = held_by(plan, rank, needed_by_rank[peer]);
    exchange.receive[peer] = held_by(plan, peer, needed_by_rank[rank]);
  }
  order_blocks(plan, rank, /*own=*/true, exchange);
  return exchange;
}

KvExchange all_gather_exchange(const ShardPlan& plan, int64_t rank) {
  std::vector<int64_t> all(plan.num_blocks());
  std::iota(all.begin(), all.end(), 0);
  return needed_kv_exchange(plan, rank, BlockLists(plan.num_ranks(), all));
}

KvExchange ring_exchange(const ShardPlan& plan, int64_t rank, int64_t step,
                         const BlockLists& needed_by_rank) {
  const int64_t num_ranks = plan.num_ranks();
  check_needed("ring_exchange", plan, rank, needed_by_rank);
  TORCH_CHECK(step >= 0 && step < num_ranks, "ring_exchange: step: got ", step, ", expected 0 to ",
              num_ranks - 1);
  const auto touches = [&](int64_t reader, int64_t owner) {
    return !held_by(plan, owner, needed_by_rank[reader]).empty();
  };
  const int64_t source = (rank + num_ranks - step) % num_ranks;
  const int64_t target = (rank + step) % num_ranks;
  KvExchange exchange{.send = BlockLists(num_ranks), .receive = BlockLists(num_ranks)};
  if (step > 0 && touches(target, rank)) exchange.send[target] = plan.blocks(rank);
  if (step > 0 && touches(rank, source)) exchange.receive[source] = plan.blocks(source);
  order_blocks(plan, rank, /*own=*/step == 0 && touches(rank, rank), exchange);
  return exchange;
}

int64_t kv_bytes(int64_t num_blocks, const ShardPlan& plan, const KvSizes& sizes) {
  return num_blocks * plan.block_size() * sizes.batch * sizes.kv_heads *
         (sizes.key_dim + sizes.value_dim) * sizes.element_size;
}

}  // namespace tessera
