// Schedules of V placement with two stages a rank: chunk 0 on the way out, chunk 1 on the way back.
#include <algorithm>
#include <array>

#include "parallel/pipeline/schedules/schedule_builders.h"

namespace tessera::pipeline {
namespace {

// The actions of one rank. Microbatches of a chunk come in order, so an action needs only its kind
// and chunk.
class ChunkActions {
 public:
  ChunkActions(const BuilderShape& shape, int64_t rank)
      : stages_{rank, shape.num_stages() - 1 - rank} {}

  int64_t num_forwards(int chunk) const { return num_forwards_[chunk]; }
  const Actions& actions() const { return actions_; }

  void forward(int chunk) { add(ActionKind::kForward, chunk, num_forwards_[chunk]++); }
  void backward(int chunk) { add(ActionKind::kBackward, chunk, num_backwards_[chunk]++); }

  void backward_input(int chunk) {
    add(ActionKind::kBackwardInput, chunk, num_backwards_[chunk]++);
    pending_.push_back(actions_.back());
    pending_.back().kind = ActionKind::kBackwardWeight;
  }

  void overlapped(int forward_chunk, int backward_chunk) {
    forward(forward_chunk);
    actions_.back().overlaps_next = true;
    backward(backward_chunk);
  }

  // Appends the oldest weight gradient that is pending, if there is one.
  void weight() {
    if (!pending_.empty()) take(pending_.begin());
  }

  // Appends the oldest pending weight gradient of one chunk. Returns whether there was one.
  bool weight(int chunk) {
    const auto oldest = std::find_if(pending_.begin(), pending_.end(), [&](const Action& action) {
      return action.stage == stages_[chunk];
    });
    if (oldest == pending_.end()) return false;
    take(oldest);
    return true;
  }

 private:
  void add(ActionKind kind, int chunk, int64_t microbatch) {
    actions_.push_back({kind, stages_[chunk], microbatch});
  }

  void take(Actions::iterator pending) {
    actions_.push_back(*pending);
    pending_.erase(pending);
  }

  std::array<int64_t, 2> stages_;
  std::array<int64_t, 2> num_forwards_{};
  std::array<int64_t, 2> num_backwards_{};
  Actions pending_;  // weight gradients
  Actions actions_;
};

template <typename F>
void repeat(int64_t times, F body) {
  for (int64_t i = 0; i < times; ++i) body();
}

}  // namespace

// ZB-V of "Zero Bubble Pipeline Parallelism" (Qi et al., 2023), section 6. It is laid out for as
// many microbatches as fill the pipeline; actions of microbatches that do not exist are left out.
Actions v_zero_bubble(const BuilderShape& shape, int64_t rank) {
  const int64_t num_planned = std::max(2 * shape.num_ranks - 1, shape.num_microbatches);
  ChunkActions chunks(shape, rank);
  const auto backward = [&](int chunk) {
    chunks.backward_input(chunk);
    chunks.weight(chunk);
  };
  // Warm-up.
  repeat(2 * (shape.num_ranks - rank) - 1, [&] { chunks.forward(0); });
  repeat(rank, [&] {
    chunks.forward(1);
    chunks.forward(0);
  });
  repeat(shape.num_ranks - rank, [&] {
    chunks.forward(1);
    backward(1);
  });
  // Steady state.
  while (chunks.num_forwards(1) < chunks.num_forwards(0) || chunks.num_forwards(0) < num_planned) {
    if (chunks.num_forwards(0) < num_planned) chunks.forward(0);
    backward(0);
    chunks.forward(1);
    backward(1);
  }
  // Cool-down.
  repeat(rank, [&] {
    chunks.backward_input(0);
    chunks.backward_input(1);
  });
  repeat(shape.num_ranks - rank, [&] {
    chunks.backward_input(0);
    chunks.weight(0);
  });
  while (chunks.weight(1)) continue;
  while (chunks.weight(0)) continue;

  Actions actions = chunks.actions();
  std::erase_if(actions,
                [&](const Action& action) { return action.microbatch >= shape.num_microbatches; });
  return actions;
}

// The V form of DualPipe ("DeepSeek-V3 Technical Report", 2024; github.com/deepseek-ai/DualPipe).
Actions dual_pipe_v(const BuilderShape& shape, int64_t rank) {
  const int64_t ranks_behind = shape.num_ranks - 1 - rank;
  ChunkActions chunks(shape, rank);
  // Fill the V: out, then out and back in turn.
  repeat(2 * ranks_behind, [&] { chunks.forward(0); });
  repeat(rank + 1, [&] {
    chunks.forward(0);
    chunks.forward(1);
  });
  repeat(ranks_behind, [&] {
    chunks.backward_input(1);
    chunks.weight();
    chunks.forward(1);
  });
  // Steady state. The last rank starts without overlap, which makes its bubble smaller.
  bool overlaps = rank < shape.num_ranks - 1;
  repeat(shape.num_microbatches - shape.num_stages() + rank + 1, [&] {
    if (overlaps) {
      chunks.overlapped(0, 1);
    } else {
      chunks.forward(0);
      chunks.backward(1);
    }
    overlaps = true;
    chunks.overlapped(1, 0);
  });
  repeat(ranks_behind, [&] {
    chunks.backward(1);
    chunks.overlapped(1, 0);
  });
  // Drain: full backwards first, split ones for the second half, whose weight gradients fill the
  // gaps.
  int64_t num_drained = 0;
  const auto drain = [&](int chunk) {
    num_drained++ <= rank ? chunks.backward(chunk) : chunks.backward_input(chunk);
  };
  repeat(rank + 1, [&] {
    drain(1);
    drain(0);
  });
  repeat(ranks_behind, [&] {
    chunks.weight();
    drain(0);
  });
  repeat(rank + 1, [&] { chunks.weight(); });
  return chunks.actions();
}

}  // namespace tessera::pipeline
