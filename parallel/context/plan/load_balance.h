// Load balancers: which rank gets which blocks, as pure functions that give a ShardPlan.
//
//   balancer            looks at                   for
//   contiguous          nothing                    full attention, short sequences
//   head_tail           positions                  plain causal masks
//   document_head_tail  document lengths           documents that are multiples of 2 x ranks blocks
//   round_robin         costs of blocks            any mask, one kind of layer (PyTorch's PTRR)
//   min_heap            costs and reads of blocks  any mask; also keeps the traffic of keys low
//
// The lists that head_tail_lists, document_head_tail_lists and round_robin_lists give are in the
// caller's unit, blocks or tokens: they are PyTorch's balancers when the unit is a token.
//
//   ShardPlan plan = balance(LoadBalancer::kMinHeap, work, num_ranks);
//
// All ranks hold equally many blocks. A sequence, documents or costs that a balancer cannot share
// are refused with c10::Error and the numbers.
#pragma once

#include <string>
#include <vector>

#include "parallel/context/plan/block_work.h"
#include "parallel/context/plan/shard_plan.h"

namespace tessera {

enum class LoadBalancer { kContiguous, kHeadTail, kDocumentHeadTail, kRoundRobin, kMinHeap };

// The balancer of a name: "contiguous", "head_tail", "document_head_tail", "round_robin",
// "min_heap", and TorchTitan's "headtail" and "ptrr". Throws c10::Error that lists the names for
// any other.
LoadBalancer load_balancer(const std::string& name);
std::string to_string(LoadBalancer balancer);

// The plan of a balancer. document_lengths, for kDocumentHeadTail only, has the tokens of each
// document of the packed sequence, the same in every batch row; multiples of the block that add up
// to the sequence.
ShardPlan balance(LoadBalancer balancer, const BlockWork& work, int64_t num_ranks,
                  const std::vector<int64_t>& document_lengths = {});

// Rank r gets chunk r of num_ranks.
ShardPlan contiguous_plan(int64_t seq_len, int64_t block_size, int64_t num_ranks);

// Rank r gets chunks r and 2 num_ranks - 1 - r of 2 num_ranks, so that causal work is even. Throws
// c10::Error unless num_units is a multiple of 2 num_ranks.
BlockLists head_tail_lists(int64_t num_units, int64_t num_ranks);

// Head-tail inside each document. Throws c10::Error, naming the document, unless each length is a
// multiple of 2 num_ranks.
BlockLists document_head_tail_lists(const std::vector<int64_t>& lengths, int64_t num_ranks);

// Units by descending cost, dealt in rounds of num_ranks whose direction alternates; each rank's
// list ascending. Throws c10::Error unless the number of costs is a multiple of num_ranks.
BlockLists round_robin_lists(const std::vector<double>& costs, int64_t num_ranks);

// A plan whose costliest rank is at most kBalanceTolerance above the mean when such a plan is
// found, and within the tolerance as few blocks of keys to fetch as a greedy search finds: ranks
// are filled one after another, each from the costliest block left, with blocks whose keys it
// already reads before others, as long as the rest of its blocks can still meet the mean. Where the
// search misses the tolerance, the plain heap (costliest block to the least loaded rank that has
// room) is taken if it is closer. O(blocks^2) at worst: 2 to 4 ms for 1024 blocks and 64 ranks.
inline constexpr double kBalanceTolerance = 0.005;
ShardPlan min_heap_plan(const BlockWork& work, int64_t num_ranks);

}  // namespace tessera
