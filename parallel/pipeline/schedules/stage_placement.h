// StagePlacement: which rank of a pipeline runs which stage.
//
//   loop, 2 ranks, 4 stages:  rank 0: 0 2      rank 1: 1 3        activations go round and round
//   V,    2 ranks, 4 stages:  rank 0: 0 3      rank 1: 1 2        and come back; the turn is local
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::pipeline {

struct StagePlacement {
  int64_t num_ranks = 0;
  std::vector<int64_t> rank_of_stage = {};

  int64_t num_stages() const { return static_cast<int64_t>(rank_of_stage.size()); }
  std::vector<int64_t> stages_of(int64_t rank) const;  // ascending
  bool operator==(const StagePlacement&) const = default;
};

// Stage s is on rank s % num_ranks. Both functions throw c10::Error unless both numbers are at
// least 1.
StagePlacement loop_placement(int64_t num_ranks, int64_t stages_per_rank);

// Stages go from rank 0 to the last, then from the last to 0, and so on.
StagePlacement v_placement(int64_t num_ranks, int64_t stages_per_rank);

}  // namespace tessera::pipeline
