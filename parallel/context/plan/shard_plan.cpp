#include "parallel/context/plan/shard_plan.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace tessera {

namespace {

void check_rank(const char* caller, const ShardPlan& plan, int64_t rank) {
  TORCH_CHECK(rank >= 0 && rank < plan.num_ranks(), caller, ": rank: got ", rank,
              ", expected 0 to ", plan.num_ranks() - 1);
}

void check_length(const char* caller, const ShardPlan& plan, const at::Tensor& tensor,
                  int64_t dim) {
  TORCH_CHECK(tensor.size(dim) == plan.seq_len(), caller, ": got ", tensor.sizes(), " with length ",
              tensor.size(dim), " in dim ", dim, ", expected the plan's ", plan.seq_len(),
              " tokens");
}

}  // namespace

void check_shardable(const char* caller, int64_t seq_len, int64_t block_size, int64_t num_ranks) {
  TORCH_CHECK(seq_len >= 1 && block_size >= 1 && num_ranks >= 1, caller, ": got ", seq_len,
              " tokens, blocks of ", block_size, ", ", num_ranks,
              " ranks, expected positive numbers");
  TORCH_CHECK(block_size * num_ranks <= seq_len, caller, ": got blocks of ", block_size,
              " tokens, expected at most a rank's share of the sequence, ", seq_len / num_ranks,
              " tokens (", seq_len, " over ", num_ranks, " ranks)");
  TORCH_CHECK(seq_len % (block_size * num_ranks) == 0, caller, ": got ", seq_len,
              " tokens, expected a multiple of ", block_size * num_ranks, " (blocks of ",
              block_size, " tokens x ", num_ranks, " ranks)");
}

ShardPlan::ShardPlan(int64_t seq_len, int64_t block_size, BlockLists blocks)
    : seq_len_(seq_len), block_size_(block_size), blocks_(std::move(blocks)) {
  check_shardable("ShardPlan", seq_len, block_size, num_ranks());
  owners_.assign(num_blocks(), -1);
  slots_.assign(num_blocks(), -1);
  for (int64_t rank = 0; rank < num_ranks(); ++rank) {
    std::vector<int64_t>& mine = blocks_[rank];
    TORCH_CHECK(static_cast<int64_t>(mine.size()) == blocks_per_rank(), "ShardPlan: rank ", rank,
                ": got ", mine.size(), " blocks, expected ", blocks_per_rank(), " of ",
                num_blocks());
    std::sort(mine.begin(), mine.end());
    for (int64_t slot = 0; slot < blocks_per_rank(); ++slot) {
      const int64_t block = mine[slot];
      TORCH_CHECK(block >= 0 && block < num_blocks(), "ShardPlan: rank ", rank, ": got block ",
                  block, ", expected 0 to ", num_blocks() - 1);
      TORCH_CHECK(owners_[block] < 0, "ShardPlan: rank ", rank, ": got block ", block,
                  ", which rank ", owners_[block], " has already");
      owners_[block] = rank;
      slots_[block] = slot;
    }
  }
}

const std::vector<int64_t>& ShardPlan::blocks(int64_t rank) const {
  check_rank("ShardPlan::blocks", *this, rank);
  return blocks_[rank];
}

at::Tensor ShardPlan::token_order() const {
  at::Tensor order_T = at::empty({seq_len_}, at::kLong);
  int64_t* next = order_T.mutable_data_ptr<int64_t>();
  for (const std::vector<int64_t>& mine : blocks_) {
    for (const int64_t block : mine) {
      for (int64_t i = 0; i < block_size_; ++i) *next++ = block * block_size_ + i;
    }
  }
  return order_T;
}

at::Tensor ShardPlan::inverse_token_order() const {
  at::Tensor places_T = at::empty({seq_len_}, at::kLong);
  int64_t* next = places_T.mutable_data_ptr<int64_t>();
  for (int64_t block = 0; block < num_blocks(); ++block) {
    const int64_t place = owners_[block] * tokens_per_rank() + slots_[block] * block_size_;
    for (int64_t i = 0; i < block_size_; ++i) *next++ = place + i;
  }
  return places_T;
}

std::string ShardPlan::to_string() const {
  return c10::str(num_ranks(), " ranks x ", blocks_per_rank(), " blocks of ", block_size_,
                  " tokens");
}

at::Tensor shard_tokens(const at::Tensor& whole, const ShardPlan& plan, int64_t rank, int64_t dim) {
  check_rank("shard_tokens", plan, rank);
  check_length("shard_tokens", plan, whole, dim);
  const int64_t num_mine = plan.tokens_per_rank();
  const at::Tensor mine = plan.token_order().narrow(0, rank * num_mine, num_mine);
  return whole.index_select(dim, mine.to(whole.device()));
}

at::Tensor unshard_tokens(const at::Tensor& by_rank, const ShardPlan& plan, int64_t dim) {
  check_length("unshard_tokens", plan, by_rank, dim);
  return by_rank.index_select(dim, plan.inverse_token_order().to(by_rank.device()));
}

Batch shard(const Batch& batch, const ShardPlan& plan, int64_t rank) {
  batch.check();
  const auto mine = [&](const at::Tensor& whole_BT) {
    return shard_tokens(whole_BT, plan, rank, /*dim=*/1);
  };
  return {mine(batch.tokens_BT), mine(batch.labels_BT), mine(batch.positions_BT),
          mine(batch.document_ids_BT), shard(batch.extras, plan, rank)};
}

Extras shard(const Extras& extras, const ShardPlan& plan, int64_t rank) {
  if (extras.empty()) return {};
  return {extras.patches_BPC, extras.image_ids_BP,
          shard_tokens(extras.feature_of_token_BT, plan, rank, /*dim=*/1)};
}

}  // namespace tessera
