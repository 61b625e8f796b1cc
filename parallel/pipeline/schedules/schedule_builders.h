// Internal to parallel/pipeline/schedules/: the orders of the named schedules, rank by rank.
// make_schedule.cpp checks the shape before it calls them, so they throw nothing of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/pipeline/schedules/schedule.h"

namespace tessera::pipeline {

struct BuilderShape {
  int64_t num_ranks = 1;
  int64_t num_microbatches = 1;
  int64_t stages_per_rank = 1;

  int64_t num_stages() const { return num_ranks * stages_per_rank; }
  // Microbatches that pass through one local stage before the next local stage takes its turn.
  int64_t num_rounds() const {
    return num_microbatches < num_ranks ? 1 : num_microbatches / num_ranks;
  }
  int64_t microbatches_per_round() const { return num_microbatches / num_rounds(); }
};

using Actions = std::vector<Action>;

// The compute actions of `rank` in each schedule; make_schedule.h has their names and rules.
Actions gpipe(const BuilderShape& shape, int64_t rank);
Actions one_forward_one_backward(const BuilderShape& shape, int64_t rank);
Actions interleaved_one_forward_one_backward(const BuilderShape& shape, int64_t rank);
Actions looped_breadth_first(const BuilderShape& shape, int64_t rank);
Actions interleaved_zero_bubble(const BuilderShape& shape, int64_t rank);
Actions v_zero_bubble(const BuilderShape& shape, int64_t rank);
Actions dual_pipe_v(const BuilderShape& shape, int64_t rank);

}  // namespace tessera::pipeline
