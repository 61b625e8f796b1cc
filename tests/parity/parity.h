// One training problem, run under any layout, and its results put together for comparison.
//
//   const ParityRun expected = train_on_ranks({}, problem);
//   expect_parity(train_on_ranks({.dims = {.tp = 2}}, problem), expected, 1e-9);
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

namespace tessera::testing {

// What is trained. Rows are packed documents of uneven lengths, so that rows differ in mask and in
// number of valid labels.
struct ParityProblem {
  Llama3Config model;
  std::string attention = "eager";
  at::ScalarType dtype = at::kDouble;
  int64_t num_rows = 8;  // of one step
  int64_t seq_len = 24;
  int64_t num_steps = 5;
  double lr = 1e-2;

  // Lengths of the documents of each row, over and over; without, documents of 1 to 17 tokens are
  // packed.
  std::vector<std::vector<int64_t>> documents = {};

  // A model around `model`'s Llama 3 instead, and what rows have besides text.
  std::function<std::unique_ptr<Model>(const AttentionOp&, const ModelPlacement&)> make = {};
  std::function<Extras(int64_t first_row, int64_t num_rows)> extras = {};
};

Llama3Config parity_model();

// How it is trained.
struct ParityLayout {
  ParallelDims dims = {};
  int64_t num_ranks = 1;
  int64_t num_microbatches = 1;  // that a rank accumulates
  bool sequence_parallel = true;
  int64_t recompute_every = 0;
  bool reshard_after_forward = true;

  // With dims.pp > 1: each of the num_microbatches is cut into so many again, of the pipeline.
  std::string schedule = "1F1B";
  std::optional<pipeline::Schedule> own_schedule = {};  // instead
  int64_t pipeline_microbatches = 1;

  // With dims.cp > 1.
  LoadBalancer balancer = LoadBalancer::kMinHeap;
  ContextMethod method = ContextMethod::kNeededKv;

  CreateMaskFn create_mask_fn = create_block_mask;
};

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

// Runs the layout's ranks as threads; checks that all of them report the same, and that parameters
// which several ranks hold are the same bits on all.
ParityRun train_on_ranks(const ParityLayout& layout, const ParityProblem& problem);

// The same for many, one after another: ranks that meet once are faster than ranks that meet for
// each. All layouts have the same number of ranks.
struct ParityCase {
  std::string name;
  ParityLayout layout;
  ParityProblem problem;
};
std::vector<ParityRun> train_on_ranks(const std::vector<ParityCase>& cases);

// Losses, gradient norms, every gradient and every weight, relative to the largest of each tensor
// (in float32 to its norm, and the difference's norm is meant); initial weights bit for bit.
void expect_parity(const ParityRun& got, const ParityRun& expected, double tolerance);

}  // namespace tessera::testing
