// Masks of one rank of a context-parallel group.
//
// A sharded mask holds the rows of this rank's queries by all keys in global order, and carries a
// ContextShard: the plan, the rank, the method, and for each exchange of keys the mask of the rows
// by the keys that are at hand after it. context_attention.h replays it; every other operator
// refuses the mask. Sharded masks are made once per microbatch and shared by the layers.
//
//   AttentionMasks mine = shard(masks, plan, rank, ContextMethod::kNeededKv);
//
// Two roads lead to equal masks: shard() of whole masks, and a model whose create_mask_fn builds
// only the rows that the rank owns:
//
//   CreateMaskFn create_mask_fn = sharding_create_mask_fn(plan, rank, method, gather);
//   AttentionMasks mine =
//       model.get_attention_masks(create_mask_fn, whole_batch, tokenizer, whole_batch.extras);
//
// Masks over a sequence of a model's own (MaskSequence::kOwn) come out of both as they went in.
//
// Whole masks of interval rules cost microseconds; the second road is for rules with a mask_fn in
// them, which are evaluated pair by pair.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "attention/block_mask/attention_masks.h"
#include "parallel/context/plan/kv_exchange.h"

namespace tessera {

// kAllToAll shards heads instead of tokens during attention: its masks are whole.
enum class ContextMethod { kAllGather, kRing, kAllToAll, kNeededKv };

// The method of a name: "all_gather", "ring", "all_to_all", "needed_kv". Throws c10::Error that
// lists the names for any other.
ContextMethod context_method(const std::string& name);
std::string to_string(ContextMethod method);

// An exchange, and the mask of this rank's queries by the keys at hand after it
// (exchange.kv_blocks). Without a mask the step computes nothing, though keys may be sent.
struct ContextStep {
  KvExchange exchange{};
  std::optional<BlockMask> mask{};

  bool operator==(const ContextStep& other) const = default;
};

// The plan that a sharded mask carries.
class ContextShard : public MaskPlan {
 public:
  ContextShard(ShardPlan plan, int64_t rank, ContextMethod method, std::vector<ContextStep> steps)
      : plan_(std::move(plan)), rank_(rank), method_(method), steps_(std::move(steps)) {}

  const ShardPlan& plan() const { return plan_; }
  int64_t rank() const { return rank_; }
  ContextMethod method() const { return method_; }
  const std::vector<ContextStep>& steps() const { return steps_; }  // none for kAllToAll

  static constexpr const char* kKind = "context";
  std::string kind() const override { return kKind; }
  std::string to_string() const override;
  bool equals(const MaskPlan& other) const override;

 private:
  ShardPlan plan_;
  int64_t rank_;
  ContextMethod method_;
  std::vector<ContextStep> steps_;
};

// The shard that a mask carries. Throws c10::Error when it carries none.
const ContextShard& context_shard(const BlockMask& mask);

// The masks of one rank. Throws c10::Error, naming the mask, when it is sharded already, its length
// is not the plan's or its tiles do not divide the plan's blocks; the first function also for a
// mask over a sequence of a model's own, which the second one leaves as it is.
BlockMask shard(const BlockMask& whole, const ShardPlan& plan, int64_t rank, ContextMethod method);
AttentionMasks shard(const AttentionMasks& masks, const ShardPlan& plan, int64_t rank,
                     ContextMethod method);

// Gives every rank the lists of all ranks, by rank: an all-gather, called in the same order by
// each. Ring and needed keys must know the key blocks that the other ranks' rows touch.
using GatherBlockLists = std::function<BlockLists(const std::vector<int64_t>& mine)>;

// A builder of sharded masks, for one rank of the plan. It is called with the whole sequence's
// shape. `gather` is used by kRing and kNeededKv only, once for each mask; without it they throw
// c10::Error. The builder throws c10::Error for a shape that does not fit the plan.
CreateMaskFn sharding_create_mask_fn(ShardPlan plan, int64_t rank, ContextMethod method,
                                     GatherBlockLists gather);

}  // namespace tessera
