#include "parallel/context/kv_transport.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace tessera {

namespace {

std::vector<int64_t> counts(const BlockLists& lists) {
  std::vector<int64_t> sizes;
  for (const std::vector<int64_t>& list : lists) {
    sizes.push_back(static_cast<int64_t>(list.size()));
  }
  return sizes;
}

at::Tensor index(const std::vector<int64_t>& values, const at::Tensor& like) {
  return at::tensor(values, at::kLong).to(like.device());
}

// The owner's slots of the blocks that go to one peer.
std::vector<int64_t> slots(const ShardPlan& plan, const std::vector<int64_t>& blocks) {
  std::vector<int64_t> own;
  for (const int64_t block : blocks) own.push_back(plan.slot(block));
  return own;
}

at::Tensor empty_rows(int64_t num_rows, const at::Tensor& like_NX) {
  return at::empty({num_rows, like_NX.size(1)}, like_NX.options());
}

// Cuts tokens into rows of blocks: [B, S, K, D] -> [S / block, B x block x K x D].
at::Tensor block_rows(const at::Tensor& x_BSKD, int64_t block_size) {
  const int64_t num_blocks = x_BSKD.size(1) / block_size;
  return x_BSKD.reshape({x_BSKD.size(0), num_blocks, block_size, x_BSKD.size(2), x_BSKD.size(3)})
      .transpose(0, 1)
      .reshape({num_blocks, -1});
}

// The inverse of block_rows, with all sizes but the length as given.
at::Tensor tokens_of(const at::Tensor& rows_MY, at::IntArrayRef sizes_BSKD, int64_t block_size) {
  const int64_t num_blocks = rows_MY.size(0);
  const int64_t batch = sizes_BSKD[0];
  return rows_MY.reshape({num_blocks, batch, block_size, sizes_BSKD[2], sizes_BSKD[3]})
      .transpose(0, 1)
      .reshape({batch, num_blocks * block_size, sizes_BSKD[2], sizes_BSKD[3]});
}

}  // namespace

at::Tensor to_block_rows(const at::Tensor& k_BSKD, const at::Tensor& v_BSKE, int64_t block_size) {
  return at::cat({block_rows(k_BSKD, block_size), block_rows(v_BSKE, block_size)}, 1);
}

std::pair<at::Tensor, at::Tensor> from_block_rows(const at::Tensor& rows_MX,
                                                  at::IntArrayRef sizes_BSKD,
                                                  at::IntArrayRef sizes_BSKE, int64_t block_size) {
  const int64_t keys = sizes_BSKD[0] * block_size * sizes_BSKD[2] * sizes_BSKD[3];
  return {tokens_of(rows_MX.narrow(1, 0, keys), sizes_BSKD, block_size),
          tokens_of(rows_MX.narrow(1, keys, rows_MX.size(1) - keys), sizes_BSKE, block_size)};
}

at::Tensor KvTransport::Pending::finish() {
  for (PendingWork& work : works_) work.wait();
  return std::exchange(result_, nullptr)();
}

KvTransport::KvTransport(const ContextShard& shard, ProcessGroup group, at::ScalarType dtype)
    : shard_(shard), group_(std::move(group)), dtype_(dtype) {}

KvTransport::Pending KvTransport::fetch(size_t step, const at::Tensor& own_NX) const {
  switch (shard_.method()) {
    case ContextMethod::kNeededKv:
      return fetch_needed(shard_.steps()[step].exchange, own_NX);
    case ContextMethod::kAllGather:
      return fetch_all(own_NX);
    case ContextMethod::kRing:
      return fetch_shard(step, own_NX);
    case ContextMethod::kAllToAll:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "all-to-all over heads fetches no keys");
}

KvTransport::Pending KvTransport::give_back(size_t step, const at::Tensor& grad_MX,
                                            const at::Tensor& total_NX) const {
  switch (shard_.method()) {
    case ContextMethod::kNeededKv:
      return return_needed(shard_.steps()[step].exchange, grad_MX, total_NX);
    case ContextMethod::kAllGather:
      return return_all(grad_MX, total_NX);
    case ContextMethod::kRing:
      return return_shard(step, grad_MX, total_NX);
    case ContextMethod::kAllToAll:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "all-to-all over heads fetches no keys");
}

KvTransport::Pending KvTransport::fetch_needed(const KvExchange& exchange,
                                               const at::Tensor& own_NX) const {
  std::vector<int64_t> rows;
  for (const std::vector<int64_t>& blocks : exchange.send) {
    for (const int64_t slot : slots(shard_.plan(), blocks)) rows.push_back(slot);
  }
  const at::Tensor sent = own_NX.index_select(0, index(rows, own_NX));
  const at::Tensor received = empty_rows(exchange.num_received(), own_NX);
  Pending pending;
  pending.works_.push_back(
      group_.all_to_all(received, sent, counts(exchange.receive), counts(exchange.send)));
  pending.result_ = [own_NX, received, places = index(exchange.places, own_NX)] {
    return at::cat({own_NX, received}).index_select(0, places);
  };
  return pending;
}

KvTransport::Pending KvTransport::return_needed(const KvExchange& exchange,
                                                const at::Tensor& grad_MX,
                                                const at::Tensor& total_NX) const {
  const int64_t num_own = total_NX.size(0);
  at::Tensor at_hand =
      at::zeros({num_own + exchange.num_received(), grad_MX.size(1)}, grad_MX.options());
  at_hand.index_copy_(0, index(exchange.places, grad_MX), grad_MX);
  const at::Tensor home = empty_rows(exchange.num_sent(), grad_MX);
  Pending pending;
  pending.works_.push_back(group_.all_to_all(home,
                                             at_hand.narrow(0, num_own, exchange.num_received()),
                                             counts(exchange.send), counts(exchange.receive)));
  total_NX.add_(at_hand.narrow(0, 0, num_own));
  // The rows are added peer by peer, so that the order of the sum is fixed: a peer returns each
  // block once.
  pending.result_ = [&plan = shard_.plan(), send = exchange.send, home, total_NX] {
    int64_t begin = 0;
    for (const std::vector<int64_t>& blocks : send) {
      const auto num_rows = static_cast<int64_t>(blocks.size());
      total_NX.index_add_(0, index(slots(plan, blocks), home),
                          home.narrow(0, begin, num_rows).to(total_NX.scalar_type()));
      begin += num_rows;
    }
    return total_NX;
  };
  return pending;
}

KvTransport::Pending KvTransport::fetch_all(const at::Tensor& own_NX) const {
  const ShardPlan& plan = shard_.plan();
  const at::Tensor by_rank = empty_rows(plan.num_blocks(), own_NX);
  std::vector<int64_t> places;
  for (int64_t block = 0; block < plan.num_blocks(); ++block) {
    places.push_back(plan.owner(block) * plan.blocks_per_rank() + plan.slot(block));
  }
  Pending pending;
  pending.works_.push_back(group_.all_gather({by_rank}, {own_NX}));
  pending.result_ = [by_rank, places = index(places, own_NX)] {
    return by_rank.index_select(0, places);
  };
  return pending;
}

KvTransport::Pending KvTransport::return_all(const at::Tensor& grad_MX,
                                             const at::Tensor& total_NX) const {
  std::vector<int64_t> by_rank;
  for (const std::vector<int64_t>& blocks : shard_.plan().blocks()) {
    by_rank.insert(by_rank.end(), blocks.begin(), blocks.end());
  }
  Pending pending;
  pending.works_.push_back(
      group_.reduce_scatter_add({total_NX}, {grad_MX.index_select(0, index(by_rank, grad_MX))}));
  pending.result_ = [total_NX] { return total_NX; };
  return pending;
}

namespace {

// Shards of a step go from rank to rank + step. Tags tell steps and directions apart.
struct RingPeers {
  RingPeers(const KvExchange& exchange, int64_t rank, int64_t step) {
    const auto num_ranks = static_cast<int64_t>(exchange.send.size());
    target = (rank + step) % num_ranks;
    source = (rank + num_ranks - step) % num_ranks;
    sends = !exchange.send[target].empty();
    receives = !exchange.receive[source].empty();
  }
  int64_t target;
  int64_t source;
  bool sends;
  bool receives;
};

constexpr int64_t kReturnTags = int64_t{1} << 16;

}  // namespace

KvTransport::Pending KvTransport::fetch_shard(size_t step, const at::Tensor& own_NX) const {
  const KvExchange& exchange = shard_.steps()[step].exchange;
  const auto tag = static_cast<int64_t>(step);
  const RingPeers peers(exchange, shard_.rank(), tag);
  at::Tensor rows = step == 0 && !exchange.kv_blocks.empty() ? own_NX : at::Tensor();
  Pending pending;
  if (peers.receives) {
    rows = empty_rows(own_NX.size(0), own_NX);
    pending.works_.push_back(group_.receive(rows, peers.source, tag));
  }
  if (peers.sends) pending.works_.push_back(group_.send(own_NX, peers.target, tag));
  pending.result_ = [rows] { return rows; };
  return pending;
}

KvTransport::Pending KvTransport::return_shard(size_t step, const at::Tensor& grad_MX,
                                               const at::Tensor& total_NX) const {
  const auto tag = kReturnTags + static_cast<int64_t>(step);
  const RingPeers peers(shard_.steps()[step].exchange, shard_.rank(), static_cast<int64_t>(step));
  if (step == 0 && grad_MX.defined()) total_NX.add_(grad_MX);
  at::Tensor home;
  Pending pending;
  if (peers.sends) {
    home = at::empty(total_NX.sizes(), total_NX.options().dtype(dtype_));
    pending.works_.push_back(group_.receive(home, peers.target, tag));
  }
  if (peers.receives) pending.works_.push_back(group_.send(grad_MX, peers.source, tag));
  pending.result_ = [home, total_NX] {
    if (home.defined()) total_NX.add_(home);
    return total_NX;
  };
  return pending;
}

}  // namespace tessera
