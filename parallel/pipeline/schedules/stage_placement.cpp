#include "parallel/pipeline/schedules/stage_placement.h"

#include <c10/util/Exception.h>

namespace tessera::pipeline {
namespace {

StagePlacement empty_placement(int64_t num_ranks, int64_t stages_per_rank) {
  TORCH_CHECK(num_ranks >= 1 && stages_per_rank >= 1, "pipeline placement: got ", num_ranks,
              " ranks with ", stages_per_rank, " stages each, expected at least 1 of both");
  return {.num_ranks = num_ranks};
}

}  // namespace

std::vector<int64_t> StagePlacement::stages_of(int64_t rank) const {
  std::vector<int64_t> stages;
  for (int64_t stage = 0; stage < num_stages(); ++stage) {
    if (rank_of_stage[stage] == rank) stages.push_back(stage);
  }
  return stages;
}

StagePlacement loop_placement(int64_t num_ranks, int64_t stages_per_rank) {
  StagePlacement placement = empty_placement(num_ranks, stages_per_rank);
  for (int64_t stage = 0; stage < num_ranks * stages_per_rank; ++stage) {
    placement.rank_of_stage.push_back(stage % num_ranks);
  }
  return placement;
}

StagePlacement v_placement(int64_t num_ranks, int64_t stages_per_rank) {
  StagePlacement placement = empty_placement(num_ranks, stages_per_rank);
  for (int64_t stage = 0; stage < num_ranks * stages_per_rank; ++stage) {
    const int64_t along = stage % num_ranks;
    const bool goes_back = stage / num_ranks % 2 == 1;
    placement.rank_of_stage.push_back(goes_back ? num_ranks - 1 - along : along);
  }
  return placement;
}

}  // namespace tessera::pipeline
