// Data, tensor and sequence parallelism: N ranks equal one rank in loss, every gradient and every
// weight.
#include <gtest/gtest.h>

#include "tests/parity/parity.h"

namespace tessera::testing {
namespace {

constexpr double kFloatTolerance = 1e-5;

struct DataCase {
  const char* name;
  ParityLayout layout;
};

void PrintTo(const DataCase& c, std::ostream* out) { *out << c.name; }

ParityProblem problem_of(bool tied) {
  ParityProblem problem{.model = parity_llama()};
  problem.model.tied_embeddings = tied;
  return problem;
}

// The run of one rank, made once for each problem.
const ParityRun& one_rank(bool tied) {
  static const ParityRun untied_run = train_on_ranks({}, problem_of(false));
  static const ParityRun tied_run = train_on_ranks({}, problem_of(true));
  return tied ? tied_run : untied_run;
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

class Parity : public ::testing::TestWithParam<std::tuple<DataCase, bool>> {};

TEST_P(Parity, EqualsOneRank) {
  const auto& [c, tied] = GetParam();
  expect_parity(train_on_ranks(c.layout, problem_of(tied)), one_rank(tied), kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Parity,
                         ::testing::Combine(::testing::ValuesIn(kDataCases), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  (std::get<1>(info.param) ? "_tied" : "");
                         });

// The tests run what users run: float32 and the flex kernels.
class ParityFloat : public ::testing::TestWithParam<DataCase> {};

TEST_P(ParityFloat, FlexEqualsOneRank) {
  ParityProblem problem = problem_of(true);
  problem.dtype = at::kFloat;
  problem.attention = "flex";
  problem.lr = 1e-3;
  static const ParityRun expected = train_on_ranks({}, problem);
  expect_parity(train_on_ranks(GetParam().layout, problem), expected, kFloatTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ParityFloat, ::testing::ValuesIn(kDataCases),
                         [](const auto& info) { return std::string(info.param.name); });

// The worst of the ranks' mean losses is not the mean, and is the same for all.
TEST(ParityMetrics, MaxLossIsOfTheWorstRank) {
  const ParityRun run = train_on_ranks({.num_ranks = 4}, problem_of(false));
  for (size_t i = 0; i < run.losses.size(); ++i) EXPECT_GT(run.max_losses[i], run.losses[i]);
  EXPECT_EQ(one_rank(false).max_losses, one_rank(false).losses);
}

}  // namespace
}  // namespace tessera::testing
