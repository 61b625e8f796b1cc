#include "tests/parity/parity.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <mutex>

#include "attention/registry.h"
#include "data/packing.h"
#include "parallel/activation_checkpoint.h"
#include "tests/support/run_ranks.h"
#include "trainer/training_step.h"

namespace tessera::testing {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

// Rows [first, first + num_rows) of an endless order; documents of 1 to 17 tokens.
Batch rows_of(const ParityProblem& problem, int64_t first, int64_t num_rows) {
  std::vector<std::vector<int64_t>> documents;
  int64_t state = 7;
  for (int64_t total = 0; total < (first + num_rows + 1) * (problem.seq_len + 1);
       total += static_cast<int64_t>(documents.back().size())) {
    std::vector<int64_t> document(static_cast<size_t>(1 + state % 17));
    for (int64_t& token : document) {
      state = (state * 29 + 11) % 1009;
      token = state % problem.model.vocab_size;
    }
    documents.push_back(std::move(document));
  }
  return pack_documents(documents, problem.seq_len).rows(first, first + num_rows);
}

// Whole tensors from every rank's parts, the same on all ranks.
Tensors whole_tensors(const std::vector<NamedShard>& shards, const DeviceMesh& mesh) {
  Tensors wholes;
  for (const NamedShard& shard : shards) {
    at::Tensor whole = at::zeros(shard.where.global_shape, shard.tensor.options());
    if (shard.is_counted && shard.tensor.numel() > 0) {
      at::Tensor place = whole;
      for (size_t dim = 0; dim < shard.where.offset.size(); ++dim) {
        const auto d = static_cast<int64_t>(dim);
        place = place.narrow(d, shard.where.offset[dim], shard.tensor.size(d));
      }
      place.copy_(shard.tensor);
    }
    wholes[shard.name] = whole;
  }
  for (auto& [name, whole] : wholes) mesh.model().all_reduce(whole).wait();
  return wholes;
}

std::vector<Batch> microbatches_of(const ParityProblem& problem, const ParityLayout& layout,
                                   const DeviceMesh& mesh, int64_t step) {
  const int64_t rows = problem.num_rows / (layout.num_microbatches * mesh.num_batch_ranks());
  std::vector<Batch> batches;
  for (int64_t m = 0; m < layout.num_microbatches; ++m) {
    const int64_t place = m * mesh.num_batch_ranks() + mesh.batch_index();
    batches.push_back(rows_of(problem, step * problem.num_rows + place * rows, rows));
  }
  return batches;
}

ParityRun train_one_rank(const World& world, const ParityLayout& layout,
                         const ParityProblem& problem) {
  const DeviceMesh mesh(world, layout.dims);
  const AttentionOp attention = AttentionRegistry::with_builtins().make(problem.attention);
  Llama3 model(problem.model, attention,
               {.tensor = TensorParallel(mesh.tp(), layout.sequence_parallel)});
  checkpoint_every_nth_layer(model.blocks(), layout.recompute_every);
  ParameterStore parameters(
      model,
      {.master_dtype = problem.dtype,
       .compute_dtype = problem.dtype,
       .reshard_after_forward = layout.reshard_after_forward,
       .sum_whole_gradients_over_tensor = layout.sequence_parallel,
       .bucket_bytes = 20000},
      /*seed=*/3, {.shard = mesh.shard(), .replicate = mesh.replicate(), .tensor = mesh.tp()});
  const ByteTokenizer tokenizer;
  TrainingStep step(model, parameters, tokenizer, create_block_mask, {.max_norm = 1.0, .adamw = {}},
                    mesh);

  ParityRun run;
  run.initial_weights = whole_tensors(parameters.named(parameters.masters()), mesh);
  step.accumulate_gradients(microbatches_of(problem, layout, mesh, 0));
  run.gradients = whole_tensors(parameters.named(parameters.gradients()), mesh);
  for (int64_t s = 0; s < problem.num_steps; ++s) {
    const StepResult result = step.run(microbatches_of(problem, layout, mesh, s), 1e-2);
    run.losses.push_back(result.loss);
    run.max_losses.push_back(result.max_loss);
    run.grad_norms.push_back(result.grad_norm);
  }
  run.weights = whole_tensors(parameters.named(parameters.masters()), mesh);
  return run;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& expected,
                  double tolerance, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], expected[i], tolerance * std::abs(expected[i])) << what << " of step " << i;
  }
}

void expect_close(const Tensors& got, const Tensors& expected, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(got.contains(name)) << what << " " << name;
    const double scale = tensor.abs().max().item<double>();
    const double difference = (got.at(name) - tensor).abs().max().item<double>();
    EXPECT_LE(difference, tolerance * scale) << what << " " << name;
    EXPECT_GT(scale, 0.0) << what << " " << name << " is zero: nothing is compared";
  }
}

}  // namespace

Llama3Config parity_model() {
  Llama3Config config;
  config.flavor = "parity";
  config.dim = 32;
  config.n_layers = 4;
  config.n_heads = 8;
  config.n_kv_heads = 4;
  config.head_dim = 4;
  config.ffn_dim = 48;
  config.vocab_size = 61;  // does not divide: uneven parts
  config.rope_theta = 100.0;
  config.max_seq_len = 64;
  return config;
}

ParityRun train_on_ranks(const ParityLayout& layout, const ParityProblem& problem) {
  ParityRun first;
  std::vector<std::vector<double>> losses(static_cast<size_t>(layout.num_ranks));
  run_ranks(layout.num_ranks, [&](const World& world) {
    ParityRun run = train_one_rank(world, layout, problem);
    losses[static_cast<size_t>(world.rank())] = run.losses;
    if (world.rank() == 0) first = std::move(run);
  });
  for (const std::vector<double>& of_rank : losses) EXPECT_EQ(of_rank, first.losses);
  return first;
}

void expect_parity(const ParityRun& got, const ParityRun& expected, double tolerance) {
  expect_close(got.losses, expected.losses, tolerance, "loss");
  expect_close(got.grad_norms, expected.grad_norms, tolerance, "gradient norm");
  expect_close(got.gradients, expected.gradients, tolerance, "gradient");
  expect_close(got.weights, expected.weights, tolerance, "weight");
  for (const auto& [name, weight] : expected.initial_weights) {
    EXPECT_TRUE(at::equal(got.initial_weights.at(name), weight)) << "initial weight " << name;
  }
}

}  // namespace tessera::testing
