// Context parallelism of one rank, as values: how a whole microbatch becomes this rank's tokens,
// labels and masks, and how a model's attention finds the keys of the others.
//
//   ContextParallel context(mesh.cp(), LoadBalancer::kMinHeap, ContextMethod::kNeededKv);
//   *site.op = context.wrap(*site.op);                              // every place that attends
//   masks = model.get_attention_masks(context.tiles_to_share(create_mask_fn), batch, ...);
//   const ContextShare mine = context.share(batch, masks);          // T / cp tokens of each row
//
// A default ContextParallel is one rank: all three are the identity.
#pragma once

#include <vector>

#include "attention/attention.h"
#include "attention/attention_masks.h"
#include "data/batch.h"
#include "parallel/comm/process_group.h"
#include "parallel/context/load_balance.h"
#include "parallel/context/shard_masks.h"

namespace tessera {

struct ContextShare {
  Batch batch;
  AttentionMasks masks;
};

class ContextParallel {
 public:
  ContextParallel() = default;
  ContextParallel(const ProcessGroup& group, LoadBalancer balancer, ContextMethod method);

  // Builds masks with tiles so small that every rank gets equally many: the largest power of two up
  // to 128. Throws c10::Error when a row cannot be shared even token by token.
  CreateMaskFn tiles_to_share(CreateMaskFn create_mask_fn) const;

  // This rank's part of a microbatch and of its whole masks.
  ContextShare share(const Batch& batch, const AttentionMasks& masks) const;

  AttentionOp wrap(const AttentionOp& op) const;

 private:
  ProcessGroup group_;
  LoadBalancer balancer_ = LoadBalancer::kContiguous;
  ContextMethod method_ = ContextMethod::kAllGather;
};

}  // namespace tessera
