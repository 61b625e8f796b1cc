// The kinds of masks, the methods and the balancers that are tested with each other.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "parallel/context/plan/load_balance.h"
#include "parallel/context/plan/shard_masks.h"
#include "tests/parallel/context/plan/packed_documents.h"

namespace tessera::testing {

inline constexpr ContextMethod kContextMethods[] = {ContextMethod::kAllGather, ContextMethod::kRing,
                                                    ContextMethod::kAllToAll,
                                                    ContextMethod::kNeededKv};

// The balancers that take any mask.
inline constexpr LoadBalancer kLoadBalancers[] = {
    LoadBalancer::kContiguous, LoadBalancer::kHeadTail, LoadBalancer::kRoundRobin,
    LoadBalancer::kMinHeap};

// Names and rules for one row of num_tokens tokens, an even number of at least 18.
inline std::vector<std::pair<std::string, MaskMod>> context_rules(int64_t num_tokens) {
  const at::Tensor ids_T = ids_of({5, 1, num_tokens / 2 - 7, 9, num_tokens / 2 - 8});  // ragged
  at::Tensor images_T = at::empty({num_tokens}, at::kLong).fill_(-1);
  images_T.narrow(0, 3, 6).fill_(0);
  images_T.narrow(0, num_tokens / 2, 7).fill_(1);
  const at::Tensor prefix_B = at::empty({1}, at::kLong).fill_(num_tokens / 3);
  return {{"causal", causal()},
          {"packed documents", causal() & document(ids_T)},
          {"window", causal() & sliding_window({.left = 5})},
          {"document & window", causal() & document(ids_T) & sliding_window({.left = 6})},
          {"chunked", causal() & chunked(11)},
          {"prefix", prefix_lm(prefix_B)},
          {"image blocks", (causal() | block_ids(images_T)) & document(ids_T)}};
}

}  // namespace tessera::testing
