// Checkpoints of pipelines: each rank writes the layers of its stages, and any layout goes on from
// what any other has saved.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/run_ranks.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/checkpoint/rank_run.h"

namespace tessera {
namespace {

using testing::RankRun;
using testing::run_ranks;
using testing::RunLayout;

const RunLayout kOneRank = {"one rank", 1};
const RunLayout kFsdp = {"fsdp 2", 2};
const RunLayout kOneF1B = {"1F1B 2", 2, {.pp = 2}};
const RunLayout kV = {"ZBVZeroBubble 2", 2, {.pp = 2}, "ZBVZeroBubble"};  // two stages a rank
const RunLayout kPipelineFsdp = {"1F1B 2 x fsdp 2", 4, {.pp = 2}};

const std::vector<std::pair<RunLayout, RunLayout>> kPairs = {
    {kOneF1B, kOneF1B},    {kOneF1B, kFsdp},
    {kFsdp, kOneF1B},      {kV, kV},
    {kV, kFsdp},           {kFsdp, kV},
    {kV, kOneF1B},         {kOneF1B, kV},
    {kOneRank, kV},        {kPipelineFsdp, kOneRank},
    {kFsdp, kPipelineFsdp}};

class PipelineCheckpoints : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr int64_t kSaved = 2, kSteps = 4;

  static Llama3Config model_config() {
    Llama3Config config = testing::checkpoint_llama(4);
    config.tied_embeddings = GetParam();
    return config;
  }

  std::string folder(const RunLayout& layout) const { return (dir_.path() / layout.name).string(); }

  // The losses of a run without a break, which leaves a checkpoint behind.
  const std::vector<double>& whole_curve(const RunLayout& layout) {
    const auto [place, is_new] = curves_.try_emplace(layout.name);
    std::vector<double>& losses = place->second;
    if (!is_new) return losses;
    run_ranks(layout.num_ranks, [&](const World& world) {
      RankRun run(world, layout, model_config(), /*seed=*/3);
      std::vector<double> own = run.train(0, kSaved);
      run.save(folder(layout), kSaved);
      for (const double loss : run.train(kSaved, kSteps)) own.push_back(loss);
      if (world.rank() == 0) losses = own;
    });
    return losses;
  }

  testing::TempDir dir_;
  std::map<std::string, std::vector<double>> curves_;
};

TEST_P(PipelineCheckpoints, AResumedRunContinuesTheCurve) {
  for (const auto& [from, to] : kPairs) {
    const std::vector<double>& expected = whole_curve(from);
    run_ranks(to.num_ranks, [&](const World& world) {
      RankRun run(world, to, model_config(), /*seed=*/4);
      run.load(folder(from), kSaved);
      const std::vector<double> losses = run.train(kSaved, kSteps);
      const bool is_same = std::string(from.name) == to.name;
      for (size_t i = 0; i < losses.size(); ++i) {
        const double loss = expected[kSaved + i];
        EXPECT_NEAR(losses[i], loss, is_same ? 0 : 1e-9 * loss) << from.name << " -> " << to.name;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Embeddings, PipelineCheckpoints, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "tied" : "untied"; });

}  // namespace
}  // namespace tessera
