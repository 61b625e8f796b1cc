#include "parallel/context/context_parallel.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "parallel/context/context_attention.h"
#include "parallel/context/plan/kv_exchange.h"

namespace tessera {
namespace {

constexpr int64_t kLargestTile = 128;

// The number of runs of blocks that a row, or a document, is cut into: head-tail gives each rank
// two.
int64_t num_parts(int64_t num_ranks, LoadBalancer balancer) {
  const bool has_tails =
      balancer == LoadBalancer::kHeadTail || balancer == LoadBalancer::kDocumentHeadTail;
  return has_tails ? 2 * num_ranks : num_ranks;
}

int64_t tile_for(int64_t length, int64_t parts) {
  TORCH_CHECK(length % parts == 0, "context parallelism: a row of ", length,
              " tokens; expected a multiple of ", parts, " (ranks, twice with head-tail)");
  int64_t tile = kLargestTile;
  while (length % (parts * tile) != 0) tile /= 2;
  return tile;
}

std::vector<int64_t> lengths_of_row(const int64_t* ids, int64_t num_tokens) {
  std::vector<int64_t> lengths;
  for (int64_t t = 0; t < num_tokens; ++t) {
    if (t == 0 || ids[t] != ids[t - 1]) lengths.push_back(0);
    ++lengths.back();
  }
  return lengths;
}

// The lengths of the documents of row 0, which every row must have: all are cut by one plan.
std::vector<int64_t> document_lengths(const Batch& batch) {
  const at::Tensor ids_BT = batch.document_ids_BT.cpu().contiguous();
  const int64_t* ids = ids_BT.const_data_ptr<int64_t>();
  const int64_t T = batch.seq_len();
  std::vector<int64_t> lengths = lengths_of_row(ids, T);
  for (int64_t row = 1; row < batch.batch_size(); ++row) {
    const std::vector<int64_t> others = lengths_of_row(ids + row * T, T);
    const auto [mine, other] = std::mismatch(lengths.begin(), lengths.end(), others.begin());
    // The lengths of both rows add up to T, so neither list is a beginning of the other.
    TORCH_CHECK(mine == lengths.end(), "document_head_tail: row ", row,
                " of a microbatch: ", "document ", mine - lengths.begin(), ": got ", *other,
                " tokens, expected ", *mine, " as in row 0: one plan is for all rows");
  }
  return lengths;
}

// A length of which all documents are multiples.
int64_t document_unit(const Batch& batch, int64_t num_ranks) {
  int64_t unit = 0;
  const std::vector<int64_t> lengths = document_lengths(batch);
  for (size_t i = 0; i < lengths.size(); ++i) {
    TORCH_CHECK(lengths[i] % (2 * num_ranks) == 0, "document_head_tail: document ", i, " of ",
                lengths.size(), ": got ", lengths[i], " tokens, expected a multiple of ",
                2 * num_ranks, " (2 x ", num_ranks, " ranks)");
    unit = std::gcd(unit, lengths[i]);
  }
  return unit;
}

}  // namespace

ContextParallel::ContextParallel(const ProcessGroup& group, LoadBalancer balancer,
                                 ContextMethod method, WorkWeights weights)
    : group_(group), balancer_(balancer), method_(method), weights_(std::move(weights)) {}

CreateMaskFn ContextParallel::tiles_to_share(CreateMaskFn create_mask_fn,
                                             const Batch& batch) const {
  if (group_.size() == 1) return create_mask_fn;
  const int64_t unit = balancer_ == LoadBalancer::kDocumentHeadTail
                           ? document_unit(batch, group_.size())
                           : batch.seq_len();
  const int64_t tile = tile_for(unit, num_parts(group_.size(), balancer_));
  return [tile, create_mask_fn](const MaskMod& rule, const MaskShape& shape) {
    if (shape.sequence == MaskSequence::kOwn) return create_mask_fn(rule, shape);
    MaskShape shared = shape;
    shared.block = {.q = tile, .kv = tile};
    return create_mask_fn(rule, shared);
  };
}

BlockWork ContextParallel::work_of(const AttentionMasks& rows) const {
  const std::vector<std::string> names = rows.names();
  TORCH_CHECK(!names.empty(), "context parallelism: the model has no masks to share the work by");
  return block_work(rows, rows.at(names.front()).shape().block.q, weights_);
}

ShardPlan ContextParallel::plan_of(const Batch& batch, const BlockWork& work) const {
  const bool by_document = balancer_ == LoadBalancer::kDocumentHeadTail;
  return balance(balancer_, work, group_.size(),
                 by_document ? document_lengths(batch) : std::vector<int64_t>());
}

MaskedBatch ContextParallel::share(const MaskedBatch& whole) const {
  if (group_.size() == 1) return whole;
  const ShardPlan plan = plan_of(whole.batch, work_of(whole.masks.of_rows()));
  return {shard(whole.batch, plan, group_.rank()),
          shard(whole.masks, plan, group_.rank(), method_)};
}

ContextForecast ContextParallel::forecast(const MaskedBatch& whole) const {
  TORCH_CHECK(group_.size() > 1, "context parallelism: nothing to forecast on one rank");
  const AttentionMasks rows = whole.masks.of_rows();
  const BlockWork work = work_of(rows);
  const ShardPlan plan = plan_of(whole.batch, work);
  double moved = 0, layers = 0;
  for (size_t i = 0; i < work.reads.size(); ++i) {
    const BlockMask& mask = rows.at(rows.names()[i]);
    const int64_t blocks = num_moved_blocks(plan, needed_kv_by_rank(mask, plan));
    moved += work.reads[i].weight * static_cast<double>(blocks);
    layers += work.reads[i].weight;
  }
  const int64_t all = (plan.num_ranks() - 1) * plan.num_blocks();
  return {.balancer = balancer_,
          .method = method_,
          .num_ranks = plan.num_ranks(),
          .tile = plan.block_size(),
          .length_multiple = num_parts(plan.num_ranks(), balancer_) * kLargestTile,
          .imbalance = imbalance(plan, work),
          .needed_share = moved / (layers * static_cast<double>(all))};
}

std::string to_string(const ContextForecast& f) {
  std::ostringstream text;
  text << f.num_ranks << " ranks, " << to_string(f.method) << ", balanced by "
       << to_string(f.balancer) << " in tiles of " << f.tile << " tokens: the busiest rank has "
       << std::fixed << std::setprecision(3) << f.imbalance << " times the mean work, rows touch "
       << std::setprecision(0) << 100 * f.needed_share << " % of the keys of other ranks";
  return text.str();
}

AttentionOp ContextParallel::wrap(const AttentionOp& op) const {
  return group_.size() == 1 ? op : wrap_context_parallel(op, group_);
}

}  // namespace tessera
