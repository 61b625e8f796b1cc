// One rank of a small run in float64 that saves and loads checkpoints, under any layout. A step has
// 4 rows of 12 tokens, the same under every layout.
//
//   run_ranks(layout.num_ranks, [&](const World& world) {
//     RankRun run(world, layout, checkpoint_model(), /*seed=*/3);
//     run.train(0, 3);
//     run.save(folder, 3);
//   });
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attention/registry/registry.h"
#include "data/loader/packing.h"
#include "models/llama3/llama3.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/job_checkpoints.h"
#include "trainer/step/rank_model.h"
#include "trainer/step/training_step.h"

namespace tessera::testing {

struct RunLayout {
  const char* name;
  int64_t num_ranks;
  ParallelDims dims = {};
  const char* schedule = "1F1B";  // for dims.pp > 1, with a row a microbatch
};

// A Llama 3 with 4 layers of dim 16.
inline Llama3Config checkpoint_model() {
  Llama3Config config;
  config.dim = 16;
  config.n_layers = 4;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 4;
  config.ffn_dim = 24;
  config.vocab_size = 31;  // does not divide: uneven and, in the end, empty parts
  config.max_seq_len = 32;
  return config;
}

class RankRun {
 public:
  RankRun(const World& world, const RunLayout& layout, const Llama3Config& config, uint64_t seed)
      : mesh(world, layout.dims) {
    const MakeModel make = [config](const ModelPlacement& placement) {
      return std::make_unique<Llama3>(config, AttentionRegistry::with_builtins().make("eager"),
                                      placement);
    };
    RankModelOptions options{
        .mesh = mesh,
        .parameters = {.master_dtype = at::kDouble, .compute_dtype = at::kDouble},
        .seed = seed};
    if (layout.dims.pp > 1) {
      options.pipeline = pipeline::plan_pipeline({.num_ranks = layout.dims.pp,
                                                  .num_layers = config.n_layers,
                                                  .num_microbatches = num_rows(),
                                                  .schedule = layout.schedule});
    }
    model_ = std::make_unique<RankModel>(options, make);
    model_->materialise(tokenizer_, create_block_mask);
    step_ =
        std::make_unique<TrainingStep>(*model_, TrainingStepOptions{.max_norm = 1.0, .adamw = {}});
  }

  // Trains steps [first, last) and returns their losses.
  std::vector<double> train(int64_t first, int64_t last) {
    std::vector<double> losses;
    for (int64_t s = first; s < last; ++s) losses.push_back(step_->run({rows_of(s)}, 1e-2).loss);
    return losses;
  }

  CheckpointTensors tensors() {
    return checkpoint_tensors(model_->parameters(), step_->optimizer(), mesh);
  }
  void save(const std::string& folder, int64_t at) {
    save_checkpoint(folder, tensors(), {.step = at, .num_tokens = 10 * at, .loader = {}}, {}, mesh);
  }
  void load(const std::string& folder, int64_t at) {
    EXPECT_EQ(load_checkpoint(folder, at, tensors(), mesh).num_tokens, 10 * at);
    model_->parameters().refresh();
  }

  DeviceMesh mesh;

 private:
  static constexpr int64_t kRows = 4, kSeqLen = 12;  // of one step, over all ranks

  int64_t num_rows() const { return kRows / mesh.num_batch_ranks(); }  // of this rank

  Batch rows_of(int64_t step) const {
    std::vector<int64_t> document;
    for (int64_t i = 0; i < (kRows + 1) * (kSeqLen + 1); ++i) {
      document.push_back((i * i + 7 * step + i / 5) % 31);
    }
    const int64_t first = mesh.batch_index() * num_rows();
    return pack_documents({document}, kSeqLen).rows(first, first + num_rows());
  }

  ByteTokenizer tokenizer_;
  std::unique_ptr<RankModel> model_;
  std::unique_ptr<TrainingStep> step_;
};

}  // namespace tessera::testing
