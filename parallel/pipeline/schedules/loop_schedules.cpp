// Schedules of loop placement: stage s on rank s % ranks.
#include <algorithm>

#include "parallel/pipeline/schedules/schedule_builders.h"

namespace tessera::pipeline {
namespace {

// The i-th forward and the i-th backward of a rank under interleaving: a round of microbatches
// passes through one local stage before the next local stage takes its turn, forwards from the
// first local stage on, backwards from the last.
class Interleaving {
 public:
  Interleaving(const BuilderShape& shape, int64_t rank) : shape_(shape), rank_(rank) {}

  int64_t num_total() const { return shape_.stages_per_rank * shape_.num_microbatches; }

  // The number of forwards before the first backward: on the last rank until the first microbatch
  // reaches the last stage, and more for each rank before it.
  int64_t num_warmup(int64_t more_a_rank) const {
    const int64_t ranks_behind = shape_.num_ranks - 1 - rank_;
    return std::min(num_total(), (shape_.stages_per_rank - 1) * shape_.microbatches_per_round() +
                                     more_a_rank * ranks_behind);
  }

  Action forward(int64_t i) const { return action(ActionKind::kForward, local_stage(i), i); }

  Action backward(ActionKind kind, int64_t i) const {
    return action(kind, shape_.stages_per_rank - 1 - local_stage(i), i);
  }

 private:
  int64_t local_stage(int64_t i) const {
    return i / shape_.microbatches_per_round() % shape_.stages_per_rank;
  }

  Action action(ActionKind kind, int64_t local_stage, int64_t i) const {
    const int64_t a_round = shape_.microbatches_per_round();
    const int64_t round = i / (a_round * shape_.stages_per_rank);
    return {.kind = kind,
            .stage = local_stage * shape_.num_ranks + rank_,
            .microbatch = round * a_round + i % a_round};
  }

  BuilderShape shape_;
  int64_t rank_;
};

}  // namespace

Actions gpipe(const BuilderShape& shape, int64_t rank) {
  Actions actions;
  for (const ActionKind kind : {ActionKind::kForward, ActionKind::kBackward}) {
    for (int64_t i = 0; i < shape.num_microbatches; ++i) actions.push_back({kind, rank, i});
  }
  return actions;
}

Actions one_forward_one_backward(const BuilderShape& shape, int64_t rank) {
  const int64_t num_warmup = std::min(shape.num_microbatches, shape.num_ranks - rank);
  Actions actions;
  for (int64_t i = 0; i < num_warmup; ++i) actions.push_back({ActionKind::kForward, rank, i});
  for (int64_t i = 0; i < shape.num_microbatches; ++i) {
    actions.push_back({ActionKind::kBackward, rank, i});
    if (num_warmup + i < shape.num_microbatches) {
      actions.push_back({ActionKind::kForward, rank, num_warmup + i});
    }
  }
  return actions;
}

Actions interleaved_one_forward_one_backward(const BuilderShape& shape, int64_t rank) {
  const Interleaving order(shape, rank);
  const int64_t num_warmup = order.num_warmup(2);
  Actions actions;
  for (int64_t i = 0; i < num_warmup; ++i) actions.push_back(order.forward(i));
  for (int64_t i = 0; i < order.num_total(); ++i) {
    if (num_warmup + i < order.num_total()) actions.push_back(order.forward(num_warmup + i));
    actions.push_back(order.backward(ActionKind::kBackward, i));
  }
  return actions;
}

Actions looped_breadth_first(const BuilderShape& shape, int64_t rank) {
  Actions actions;
  for (int64_t local = 0; local < shape.stages_per_rank; ++local) {
    for (int64_t i = 0; i < shape.num_microbatches; ++i) {
      actions.push_back({ActionKind::kForward, local * shape.num_ranks + rank, i});
    }
  }
  for (int64_t i = static_cast<int64_t>(actions.size()) - 1; i >= 0; --i) {
    actions.push_back({ActionKind::kBackward, actions[i].stage, actions[i].microbatch});
  }
  return actions;
}

// ZB-H1 of "Zero Bubble Pipeline Parallelism" (Qi et al., 2023), interleaved: weight gradients wait
// until `rank` more input gradients are done.
Actions interleaved_zero_bubble(const BuilderShape& shape, int64_t rank) {
  const Interleaving order(shape, rank);
  const int64_t num_warmup = order.num_warmup(1);
  Actions actions;
  for (int64_t i = 0; i < num_warmup; ++i) actions.push_back(order.forward(i));
  int64_t num_weights = 0;
  const auto weights = [&] {
    actions.push_back(order.backward(ActionKind::kBackwardWeight, num_weights++));
  };
  for (int64_t i = 0; i < order.num_total(); ++i) {
    if (num_warmup + i < order.num_total()) actions.push_back(order.forward(num_warmup + i));
    actions.push_back(order.backward(ActionKind::kBackwardInput, i));
    if (i >= rank) weights();
  }
  while (num_weights < order.num_total()) weights();
  return actions;
}

}  // namespace tessera::pipeline
