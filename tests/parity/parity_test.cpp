// Data, tensor and sequence parallelism: N ranks equal one rank in loss, every gradient and every
// weight.
#include <gtest/gtest.h>

#include <map>

#include "tests/parity/parity.h"

namespace tessera::testing {
namespace {

constexpr double kFloatTolerance = 1e-5;

struct DataCase {
  const char* name;
  ParityLayout layout;
};

// float32 with the flex kernels is what users run.
enum class DataModel { kUntied, kTied, kTiedFlexInFloat32 };
constexpr DataModel kDataModels[] = {DataModel::kUntied, DataModel::kTied,
                                     DataModel::kTiedFlexInFloat32};
constexpr const char* kDataModelNames[] = {"untied", "tied", "flex_float32"};

ParityProblem problem_of(DataModel model) {
  ParityProblem problem{.model = parity_llama()};
  problem.model.tied_embeddings = model != DataModel::kUntied;
  if (model == DataModel::kTiedFlexInFloat32) {
    problem.dtype = at::kFloat;
    problem.attention = "flex";
    problem.lr = 1e-3;
  }
  return problem;
}

// The run of one rank, made once for each problem.
const ParityRun& one_rank(DataModel model) {
  static std::map<DataModel, ParityRun> runs;
  const auto [place, is_new] = runs.try_emplace(model);
  if (is_new) place->second = train_on_ranks({}, problem_of(model));
  return place->second;
}

const DataCase kDataCases[] = {
    {"accumulation", {.num_microbatches = 4}},
    {"ddp2", {.dims = {.dp_replicate = 2}, .num_ranks = 2}},
    {"ddp4", {.dims = {.dp_replicate = 4}, .num_ranks = 4, .num_microbatches = 2}},
    {"fsdp2", {.num_ranks = 2, .num_microbatches = 2}},
    {"fsdp4", {.num_ranks = 4, .recompute_every = 1}},
    {"fsdp4_no_reshard", {.num_ranks = 4, .reshard_after_forward = false}},
    {"fsdp8", {.num_ranks = 8}},
    {"hsdp4", {.dims = {.dp_replicate = 2}, .num_ranks = 4, .num_microbatches = 2}},
    {"tp2", {.dims = {.tp = 2}, .num_ranks = 2, .sequence_parallel = false}},
    {"tp4", {.dims = {.tp = 4}, .num_ranks = 4, .sequence_parallel = false, .recompute_every = 2}},
    {"tp2_sp", {.dims = {.tp = 2}, .num_ranks = 2, .num_microbatches = 2}},
    {"tp4_sp", {.dims = {.tp = 4}, .num_ranks = 4, .recompute_every = 1}},
    {"fsdp2_tp2", {.dims = {.tp = 2}, .num_ranks = 4, .recompute_every = 2}},
    {"fsdp4_tp2", {.dims = {.tp = 2}, .num_ranks = 8, .num_microbatches = 2}},
    {"hsdp_tp2", {.dims = {.dp_replicate = 2, .tp = 2}, .num_ranks = 8, .recompute_every = 1}},
};

struct DataRun {
  DataCase layout;
  DataModel model;
};

void PrintTo(const DataRun& run, std::ostream* out) { *out << run.layout.name; }

std::vector<DataRun> all_data_runs() {
  std::vector<DataRun> all;
  for (const DataCase& layout : kDataCases) {
    for (const DataModel model : kDataModels) all.push_back({layout, model});
  }
  return all;
}

std::vector<DataRun> few_data_runs() {
  return pairwise(
      all_data_runs(),
      [](const DataRun& run) {
        Combination values = values_of(run.layout.layout);
        values.push_back(static_cast<int64_t>(run.model));
        return values;
      },
      [](const DataRun& run) { return run.layout.name; });
}

std::string name_of_data_run(const ::testing::TestParamInfo<DataRun>& info) {
  return std::string(info.param.layout.name) + "_" +
         kDataModelNames[static_cast<size_t>(info.param.model)];
}

class Parity : public ::testing::TestWithParam<DataRun> {};

TEST_P(Parity, EqualsOneRank) {
  const auto& [c, model] = GetParam();
  const bool is_float = model == DataModel::kTiedFlexInFloat32;
  expect_parity(train_on_ranks(c.layout, problem_of(model)), one_rank(model),
                is_float ? kFloatTolerance : kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Parity, ::testing::ValuesIn(few_data_runs()), name_of_data_run);
INSTANTIATE_TEST_SUITE_P(SoakLayouts, Parity, ::testing::ValuesIn(all_data_runs()),
                         name_of_data_run);

// The worst of the ranks' mean losses is not the mean, and is the same for all.
TEST(ParityMetrics, MaxLossIsOfTheWorstRank) {
  const ParityRun run = train_on_ranks({.num_ranks = 4}, problem_of(DataModel::kUntied));
  for (size_t i = 0; i < run.losses.size(); ++i) EXPECT_GT(run.max_losses[i], run.losses[i]);
  const ParityRun& one = one_rank(DataModel::kUntied);
  EXPECT_EQ(one.max_losses, one.losses);
}

}  // namespace
}  // namespace tessera::testing
