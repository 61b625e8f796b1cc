// ContextParallel: context parallelism of one rank as a value. It turns a whole microbatch into
// this rank's tokens, labels and masks, and lets a model's attention find the keys of the other
// ranks.
//
//   ContextParallel context(mesh.cp(), LoadBalancer::kMinHeap, ContextMethod::kNeededKv);
//   *site.op = context.wrap(*site.op);                              // every place that attends
//   masks = model.get_attention_masks(context.tiles_to_share(create_mask_fn, batch), batch,
//                                     tokenizer, extras);
//   const MaskedBatch mine = context.share({batch, masks});         // T / cp tokens of each row
//
// Masks over a sequence of a model's own (MaskSequence::kOwn) stay whole, and so do the ops that
// take them.
//
// A default ContextParallel is one rank: wrap, tiles_to_share and share are the identity.
#pragma once

#include <string>

#include "attention/block_mask/attention_masks.h"
#include "attention/op/attention.h"
#include "data/batch.h"
#include "parallel/comm/process_group.h"
#include "parallel/context/plan/block_work.h"
#include "parallel/context/plan/load_balance.h"
#include "parallel/context/plan/shard_masks.h"

namespace tessera {

// A microbatch and the masks of its rows, by the model's names.
struct MaskedBatch {
  Batch batch;
  AttentionMasks masks;
};

// The properties of one microbatch's plan, told before anything is sent.
struct ContextForecast {
  LoadBalancer balancer = LoadBalancer::kContiguous;
  ContextMethod method = ContextMethod::kAllGather;
  int64_t num_ranks = 1;
  int64_t tile = 0;  // tokens of a side of the masks' tiles
  // Rows (document_head_tail: documents) whose length is a multiple of this number of tokens have
  // the largest tiles.
  int64_t length_multiple = 0;
  double imbalance = 1;     // live pairs of the busiest rank by the mean, over all masks by layers
  double needed_share = 1;  // of the keys of other ranks, those that the rows of a rank touch
};

// "2 ranks, needed_kv, balanced by min_heap in tiles of 128 tokens: the busiest rank has 1.004
// times the mean work, rows touch 35 % of the keys of other ranks".
std::string to_string(const ContextForecast& forecast);

class ContextParallel {
 public:
  ContextParallel() = default;

  // weights.layers tells how many of the model's layers use each mask, so that a mask counts for as
  // much work as is done with it (block_work.h); masks that are not named count as one layer.
  ContextParallel(const ProcessGroup& group, LoadBalancer balancer, ContextMethod method,
                  WorkWeights weights = {});

  int64_t size() const { return group_.size(); }

  // The mask builder for a microbatch, which calls create_mask_fn with tiles so small that every
  // rank gets equally many (under document_head_tail: of every document): the largest power of two
  // up to 128 tokens. Throws c10::Error with the numbers when a row cannot be shared even token by
  // token, and under document_head_tail when a document cannot, or rows have documents of other
  // lengths than the first: one plan is for all rows.
  CreateMaskFn tiles_to_share(CreateMaskFn create_mask_fn, const Batch& batch) const;

  // This rank's part of a microbatch whose masks are whole and made with tiles_to_share: plans the
  // shares of all ranks, then cuts batch and masks. Without communication: every rank computes the
  // same plan. Throws c10::Error when there are no masks over rows, and what shard refuses.
  MaskedBatch share(const MaskedBatch& whole) const;

  // The properties of the plan by which share() would cut. Throws c10::Error on one rank, where
  // nothing is shared.
  ContextForecast forecast(const MaskedBatch& whole) const;

  // The op as context_attention.h decorates it.
  AttentionOp wrap(const AttentionOp& op) const;

 private:
  BlockWork work_of(const AttentionMasks& rows) const;
  ShardPlan plan_of(const Batch& batch, const BlockWork& work) const;

  ProcessGroup group_;
  LoadBalancer balancer_ = LoadBalancer::kContiguous;
  ContextMethod method_ = ContextMethod::kAllGather;
  WorkWeights weights_;
};

}  // namespace tessera
