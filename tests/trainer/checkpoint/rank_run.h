// One rank of a small run in float64 that saves and loads checkpoints, under any layout. A step has
// 4 rows of 12 tokens, the same under every layout.
//
//   run_ranks(layout.num_ranks, [&](const World& world) {
//     RankRun run(world, layout, checkpoint_llama(4), /*seed=*/3);
//     run.train(0, 3);
//     run.save(folder, 3);
//   });
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "data/loader/packing.h"
#include "tests/support/rank_model.h"
#include "tests/support/small_models.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/job_checkpoints.h"

namespace tessera::testing {

struct RunLayout {
  const char* name;
  int64_t num_ranks;
  ParallelDims dims = {};
  const char* schedule = "1F1B";  // for dims.pp > 1, with a row a microbatch
};

class RankRun {
 public:
  RankRun(const World& world, const RunLayout& layout, const Llama3Config& config, uint64_t seed)
      : mesh(world, layout.dims) {
    RankModelOptions options{.mesh = mesh, .parameters = double_parameters(), .seed = seed};
    if (layout.dims.pp > 1) {
      options.pipeline = pipeline::plan_pipeline({.num_ranks = layout.dims.pp,
                                                  .num_layers = config.n_layers,
                                                  .num_microbatches = num_rows(),
                                                  .schedule = layout.schedule});
    }
    rank_ = std::make_unique<TrainedRank>(options, llama_maker(config));
  }

  // Trains steps [first, last) and returns their losses.
  std::vector<double> train(int64_t first, int64_t last) {
    std::vector<double> losses;
    for (int64_t s = first; s < last; ++s)
      losses.push_back(rank_->step->run({rows_of(s)}, 1e-2).loss);
    return losses;
  }

  CheckpointTensors tensors() {
    return checkpoint_tensors(rank_->parameters(), rank_->step->optimizer(), mesh);
  }
  void save(const std::string& folder, int64_t at) {
    save_checkpoint(folder, tensors(), {.step = at, .num_tokens = 10 * at, .loader = {}}, {}, mesh);
  }
  void load(const std::string& folder, int64_t at) {
    EXPECT_EQ(load_checkpoint(folder, at, tensors(), mesh).num_tokens, 10 * at);
    rank_->parameters().refresh();
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

  std::unique_ptr<TrainedRank> rank_;
};

}  // namespace tessera::testing
