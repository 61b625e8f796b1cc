// One training problem, run under any layout, and its results put together for comparison: N ranks
// must equal one rank.
//
//   const ParityProblem problem{.model = parity_model()};
//   const ParityRun expected = train_on_ranks({}, problem);
//   const ParityLayout layout{.dims = {.tp = 2}, .num_ranks = 2};
//   expect_parity(train_on_ranks(layout, problem), expected, 1e-9);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/block_mask/block_mask.h"
#include "models/llama3/llama3.h"
#include "parallel/comm/parallel_dims.h"
#include "parallel/context/plan/load_balance.h"
#include "parallel/context/plan/shard_masks.h"
#include "parallel/pipeline/schedules/schedule.h"
#include "tests/support/pairwise.h"
#include "tests/support/small_models.h"

namespace tessera::testing {

// The largest relative difference of results in float64.
inline constexpr double kParityTolerance = 1e-9;

// The model and the data. Rows are packed documents of uneven lengths, so that rows differ in mask
// and in number of valid labels.
struct ParityProblem {
  Llama3Config model;
  std::string attention = "eager";
  at::ScalarType dtype = at::kDouble;
  int64_t num_rows = 8;  // of one step
  int64_t seq_len = 24;
  int64_t num_steps = 5;
  double lr = 1e-2;

  // Lengths of the documents of each row; row r has those at r modulo the list's size. Without any,
  // documents of 1 to 17 tokens are packed.
  std::vector<std::vector<int64_t>> documents = {};

  // Makes a model around `model`'s Llama 3 instead of that Llama 3 alone, and the extras of rows.
  std::function<std::unique_ptr<Model>(const AttentionOp&, const ModelPlacement&)> make = {};
  std::function<Extras(int64_t first_row, int64_t num_rows)> extras = {};
};

// The ranks and how they divide the work. The default is one rank.
struct ParityLayout {
  ParallelDims dims = {};
  int64_t num_ranks = 1;
  int64_t num_microbatches = 1;  // that a rank accumulates
  bool sequence_parallel = true;
  int64_t recompute_every = 0;  // layers; 0: no layer is recomputed
  bool reshard_after_forward = true;

  // With dims.pp > 1: the schedule, and the microbatches of the pipeline into which each of the
  // num_microbatches is cut.
  std::string schedule = "1F1B";
  std::optional<pipeline::Schedule> own_schedule = {};  // instead
  int64_t pipeline_microbatches = 1;

  // With dims.cp > 1: how ranks share rows.
  LoadBalancer balancer = LoadBalancer::kMinHeap;
  ContextMethod method = ContextMethod::kNeededKv;

  CreateMaskFn create_mask_fn = create_block_mask;
};

// The layout as values, for covers of pairs.
Combination values_of(const ParityLayout& layout);

// The results of a run; the vectors are by step.
struct ParityRun {
  std::vector<double> losses;
  std::vector<double> max_losses;
  std::vector<double> grad_norms;
  std::vector<int64_t> num_valid_labels;
  std::map<std::string, at::Tensor> gradients;        // whole, of the first step, before clipping
  std::map<std::string, at::Tensor> initial_weights;  // whole
  std::map<std::string, at::Tensor> weights;          // whole, after the last step
};

// Rows [first, first + num_rows) of the endless order that a problem trains on.
Batch parity_rows(const ParityProblem& problem, int64_t first, int64_t num_rows);

// Runs the layout's ranks as threads. Fails the test unless all of them report the same, and
// parameters which several ranks hold have the same bits on all.
ParityRun train_on_ranks(const ParityLayout& layout, const ParityProblem& problem);

// A layout and a problem, with a name for failures.
struct ParityCase {
  std::string name;
  ParityLayout layout;
  ParityProblem problem;
};

// Runs several cases, one after another, whose layouts have the same number of ranks: ranks that
// meet once are faster than ranks that meet for each case.
std::vector<ParityRun> train_on_ranks(const std::vector<ParityCase>& cases);

// Compares losses, gradient norms, every gradient and every weight within `tolerance`, and the
// numbers of valid labels and the initial weights exactly. Tensors are compared by their largest
// element's difference relative to the largest element, in float32 by the norm of the difference
// relative to the norm.
void expect_parity(const ParityRun& got, const ParityRun& expected, double tolerance);

}  // namespace tessera::testing
