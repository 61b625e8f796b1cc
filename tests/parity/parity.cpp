#include "tests/parity/parity.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <memory>

#include "attention/registry/registry.h"
#include "data/loader/packing.h"
#include "tests/support/rank_model.h"
#include "tests/support/run_ranks.h"

namespace tessera::testing {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

// The view of a whole tensor at the place of a shard.
at::Tensor place_of(const NamedShard& shard, const at::Tensor& whole) {
  at::Tensor place = whole;
  for (size_t dim = 0; dim < shard.where.offset.size(); ++dim) {
    const auto d = static_cast<int64_t>(dim);
    place = place.narrow(d, shard.where.offset[dim], shard.tensor.size(d));
  }
  return place;
}

// The length of the document that begins at this token of a row's window. Where lengths are given,
// the window's last token, which is a target only, is a document of its own.
int64_t document_length(const ParityProblem& problem, int64_t row, int64_t token, int64_t state) {
  if (problem.documents.empty()) return 1 + state % 17;
  const auto num_rows = static_cast<int64_t>(problem.documents.size());
  for (const int64_t length : problem.documents[static_cast<size_t>(row % num_rows)]) {
    if (token == 0) return length;
    token -= length;
  }
  return 1;
}

std::unique_ptr<Model> make_model(const ParityProblem& problem, const ModelPlacement& placement) {
  const AttentionOp attention = AttentionRegistry::with_builtins().make(problem.attention);
  if (problem.make) return problem.make(attention, placement);
  return std::make_unique<Llama3>(problem.model, attention, placement);
}

// The whole tensors, from every rank's parts. They are the same on all ranks, and include
// parameters that only other ranks hold parts of.
Tensors whole_tensors(const std::vector<NamedShard>& shards, const ParityProblem& problem,
                      const DeviceMesh& mesh) {
  const std::unique_ptr<Model> all = make_model(problem, {});
  const at::Tensor flat = at::zeros({all->num_parameters()}, problem.dtype);
  Tensors wholes;
  int64_t begin = 0;
  for (const ParameterSlot& slot : all->parameters()) {
    const int64_t numel = slot.tensor->numel();
    wholes[slot.name] = flat.narrow(0, begin, numel).view(slot.tensor->sizes());
    begin += numel;
  }
  for (const NamedShard& shard : shards) {
    const bool fills = shard.is_counted && shard.tensor.numel() > 0;
    if (fills) place_of(shard, wholes.at(shard.name)).copy_(shard.tensor);
  }
  mesh.model().all_reduce(flat).wait();
  for (const NamedShard& shard : shards) {
    if (shard.tensor.numel() == 0) continue;
    EXPECT_TRUE(at::equal(shard.tensor, place_of(shard, wholes.at(shard.name)))) << shard.name;
  }
  return wholes;
}

std::vector<Batch> microbatches_of(const ParityProblem& problem, const ParityLayout& layout,
                                   const DeviceMesh& mesh, int64_t step) {
  const int64_t rows = problem.num_rows / (layout.num_microbatches * mesh.num_batch_ranks());
  std::vector<Batch> batches;
  for (int64_t m = 0; m < layout.num_microbatches; ++m) {
    const int64_t place = m * mesh.num_batch_ranks() + mesh.batch_index();
    batches.push_back(parity_rows(problem, step * problem.num_rows + place * rows, rows));
  }
  return batches;
}

pipeline::PipelinePlan pipeline_plan(const ParityProblem& problem, const ParityLayout& layout) {
  return pipeline::plan_pipeline({.num_ranks = layout.dims.pp,
                                  .num_layers = problem.model.n_layers,
                                  .num_microbatches = layout.pipeline_microbatches,
                                  .schedule = layout.schedule,
                                  .own = layout.own_schedule});
}

RankModelOptions rank_options(const DeviceMesh& mesh, const ParityLayout& layout,
                              const ParityProblem& problem) {
  RankModelOptions options{.mesh = mesh,
                           .sequence_parallel = layout.sequence_parallel,
                           .context = {mesh.cp(), layout.balancer, layout.method},
                           .recompute_every_nth_layer = layout.recompute_every,
                           .parameters = {.master_dtype = problem.dtype,
                                          .compute_dtype = problem.dtype,
                                          .reshard_after_forward = layout.reshard_after_forward,
                                          .bucket_bytes = 20000},
                           .seed = 3};
  if (layout.dims.pp > 1) options.pipeline = pipeline_plan(problem, layout);
  return options;
}

ParityRun train_one_rank(const World& world, const ParityLayout& layout,
                         const ParityProblem& problem) {
  const DeviceMesh mesh(world, layout.dims);
  const TrainedRank rank(
      rank_options(mesh, layout, problem),
      [&](const ModelPlacement& placement) { return make_model(problem, placement); },
      {.max_norm = 1.0, .adamw = {}}, layout.create_mask_fn);
  TrainingStep& training = *rank.step;
  const ParameterStore& parameters = rank.parameters();
  const auto wholes = [&](const at::Tensor& flat) {
    return whole_tensors(parameters.named(flat), problem, mesh);
  };

  ParityRun run;
  run.initial_weights = wholes(parameters.masters());
  training.accumulate_gradients(microbatches_of(problem, layout, mesh, 0));
  run.gradients = wholes(parameters.gradients());
  for (int64_t s = 0; s < problem.num_steps; ++s) {
    const StepResult result = training.run(microbatches_of(problem, layout, mesh, s), problem.lr);
    run.losses.push_back(result.loss);
    run.max_losses.push_back(result.max_loss);
    run.grad_norms.push_back(result.grad_norm);
    run.num_valid_labels.push_back(result.num_valid_labels);
  }
  run.weights = wholes(parameters.masters());
  return run;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& expected,
                  double tolerance, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], tolerance * std::abs(expected[i])) << what << " of step " << i;
  }
}

// The size by which tensors are compared: the largest element in float64, where no element may
// differ; the norm in float32, where the tensor as a whole may not. AdamW divides by the gradient's
// size, so in float32 an element whose gradient is all rounding moves by the learning rate.
double magnitude(const at::Tensor& x) {
  const at::Tensor size = x.scalar_type() == at::kDouble ? x.abs().max() : x.norm();
  return size.item<double>();
}

void expect_close(const Tensors& got, const Tensors& expected, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(got.contains(name)) << what << " " << name;
    const double scale = magnitude(tensor);
    const double difference = magnitude(got.at(name) - tensor);
    EXPECT_LE(difference, tolerance * scale) << what << " " << name;
    EXPECT_GT(scale, 0.0) << what << " " << name << " is zero: nothing is compared";
  }
}

}  // namespace

Combination values_of(const ParityLayout& layout) {
  return {layout.num_ranks,
          layout.dims.dp_replicate,
          layout.dims.cp,
          layout.dims.tp,
          layout.dims.pp,
          layout.num_microbatches,
          layout.sequence_parallel,
          layout.recompute_every,
          layout.reshard_after_forward,
          static_cast<int64_t>(std::hash<std::string>()(layout.schedule)),
          layout.pipeline_microbatches,
          static_cast<int64_t>(layout.balancer),
          static_cast<int64_t>(layout.method)};
}

Batch parity_rows(const ParityProblem& problem, int64_t first, int64_t num_rows) {
  const int64_t window = problem.seq_len + 1;
  std::vector<std::vector<int64_t>> documents;
  int64_t state = 7;
  for (int64_t total = 0; total < (first + num_rows + 1) * window;
       total += static_cast<int64_t>(documents.back().size())) {
    std::vector<int64_t> document(
        static_cast<size_t>(document_length(problem, total / window, total % window, state)));
    for (int64_t& token : document) {
      state = (state * 29 + 11) % 1009;
      token = state % problem.model.vocab_size;
    }
    documents.push_back(std::move(document));
  }
  Batch rows = pack_documents(documents, problem.seq_len).rows(first, first + num_rows);
  if (problem.extras) rows.extras = problem.extras(first, num_rows);
  return rows;
}

ParityRun train_on_ranks(const ParityLayout& layout, const ParityProblem& problem) {
  return std::move(train_on_ranks({{"", layout, problem}}).front());
}

std::vector<ParityRun> train_on_ranks(const std::vector<ParityCase>& cases) {
  const int64_t num_ranks = cases.front().layout.num_ranks;
  std::vector<std::vector<ParityRun>> by_rank(static_cast<size_t>(num_ranks));
  run_ranks(num_ranks, [&](const World& world) {
    for (const ParityCase& one : cases) {
      SCOPED_TRACE(one.name);
      by_rank[static_cast<size_t>(world.rank())].push_back(
          train_one_rank(world, one.layout, one.problem));
    }
  });
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    const ParityRun& first = by_rank.front()[i];
    for (const std::vector<ParityRun>& runs : by_rank) {
      EXPECT_EQ(runs[i].losses, first.losses);
      EXPECT_EQ(runs[i].max_losses, first.max_losses);
      EXPECT_EQ(runs[i].grad_norms, first.grad_norms);
      EXPECT_EQ(runs[i].num_valid_labels, first.num_valid_labels);
    }
  }
  return std::move(by_rank.front());
}

void expect_parity(const ParityRun& got, const ParityRun& expected, double tolerance) {
  EXPECT_EQ(got.num_valid_labels, expected.num_valid_labels);
  expect_close(got.losses, expected.losses, tolerance, "loss");
  expect_close(got.grad_norms, expected.grad_norms, tolerance, "gradient norm");
  expect_close(got.gradients, expected.gradients, tolerance, "gradient");
  expect_close(got.weights, expected.weights, tolerance, "weight");
  for (const auto& [name, weight] : expected.initial_weights) {
    EXPECT_TRUE(at::equal(got.initial_weights.at(name), weight)) << "initial weight " << name;
  }
}

}  // namespace tessera::testing
