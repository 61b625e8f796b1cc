// Pipeline parallelism: every schedule, and its products with the other axes, equal one rank in
// loss, every gradient and every weight.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <thread>

#include "parallel/pipeline/microbatches.h"
#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/parity/parity.h"
#include "tests/support/rank_model.h"
#include "tests/support/run_ranks.h"
#include "trainer/step/pipeline_passes.h"

namespace tessera::testing {
namespace {

// A problem that eight stages fit: the first holds the embedding alone, the last the norm and the
// head alone.
ParityProblem pipeline_problem(int64_t num_rows, bool tied) {
  ParityProblem problem{
      .model = parity_llama(), .num_rows = num_rows, .seq_len = 12, .num_steps = 2};
  problem.model.n_layers = 6;
  problem.model.tied_embeddings = tied;
  return problem;
}

// The run of one rank, made once for each problem.
const ParityRun& pipeline_on_one_rank(int64_t num_rows, bool tied) {
  static std::map<std::pair<int64_t, bool>, ParityRun> runs;
  const auto [place, is_new] = runs.try_emplace({num_rows, tied});
  if (is_new) place->second = train_on_ranks({}, pipeline_problem(num_rows, tied));
  return place->second;
}

using ScheduleAndRanks = std::tuple<const char*, int64_t>;

class ScheduleParity : public ::testing::TestWithParam<ScheduleAndRanks> {};

bool admits(const std::string& schedule, int64_t num_ranks, int64_t num_microbatches) {
  try {
    pipeline::make_schedule(schedule,
                            {.num_ranks = num_ranks, .num_microbatches = num_microbatches});
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

// The cases go from as many microbatches as ranks to three times as many, as far as the schedule
// takes them. Rows are microbatches: each has a mask and a number of valid labels of its own.
TEST_P(ScheduleParity, EqualsOneRank) {
  const auto& [schedule, num_ranks] = GetParam();
  std::vector<ParityCase> cases;
  for (int64_t m = num_ranks; m <= 3 * num_ranks; ++m) {
    if (!admits(schedule, num_ranks, m)) continue;
    const bool tied = cases.size() % 2 == 1;
    const ParityLayout layout{.dims = {.pp = num_ranks},
                              .num_ranks = num_ranks,
                              .schedule = schedule,
                              .pipeline_microbatches = m};
    cases.push_back({std::to_string(m) + " microbatches" + (tied ? ", tied" : ""), layout,
                     pipeline_problem(m, tied)});
  }
  ASSERT_GE(cases.size(), 2u);  // multiples of the ranks at least
  const std::vector<ParityRun> runs = train_on_ranks(cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    const ParityProblem& problem = cases[i].problem;
    expect_parity(runs[i], pipeline_on_one_rank(problem.num_rows, problem.model.tied_embeddings),
                  kParityTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, ScheduleParity,
                         ::testing::Combine(::testing::Values("GPipe", "1F1B", "Interleaved1F1B",
                                                              "LoopedBFS", "InterleavedZeroBubble",
                                                              "ZBVZeroBubble", "DualPipeV"),
                                            ::testing::Values(2, 4)),
                         [](const auto& info) {
                           return "_" + std::string(std::get<0>(info.param)) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

struct ProductCase {
  const char* name;
  bool tied;
  ParityLayout layout;
};

void PrintTo(const ProductCase& c, std::ostream* out) { *out << c.name; }

constexpr int64_t kProductRows = 16;

const ProductCase kProducts[] = {
    {"accumulation",
     true,
     {.dims = {.pp = 2}, .num_ranks = 2, .num_microbatches = 2, .pipeline_microbatches = 4}},
    {"checkpointing",
     false,
     {.dims = {.pp = 2},
      .num_ranks = 2,
      .recompute_every = 1,
      .schedule = "InterleavedZeroBubble",
      .pipeline_microbatches = 4}},
    {"uneven_microbatches", true, {.dims = {.pp = 2}, .num_ranks = 2, .pipeline_microbatches = 5}},
    {"ddp",
     false,
     {.dims = {.dp_replicate = 2, .pp = 2}, .num_ranks = 4, .pipeline_microbatches = 4}},
    {"fsdp",
     true,
     {.dims = {.pp = 2},
      .num_ranks = 4,
      .num_microbatches = 2,
      .schedule = "ZBVZeroBubble",
      .pipeline_microbatches = 4}},
    {"fsdp_no_reshard",
     false,
     {.dims = {.pp = 2},
      .num_ranks = 4,
      .recompute_every = 2,
      .reshard_after_forward = false,
      .schedule = "InterleavedZeroBubble",
      .pipeline_microbatches = 4}},
    {"tp", true, {.dims = {.tp = 2, .pp = 2}, .num_ranks = 4, .pipeline_microbatches = 4}},
    {"tp_no_sequence",
     false,
     {.dims = {.tp = 2, .pp = 2},
      .num_ranks = 4,
      .sequence_parallel = false,
      .schedule = "DualPipeV",
      .pipeline_microbatches = 4}},
    {"fsdp_tp",
     true,
     {.dims = {.tp = 2, .pp = 2},
      .num_ranks = 8,
      .recompute_every = 2,
      .schedule = "InterleavedZeroBubble",
      .pipeline_microbatches = 4}},
};

class PipelineProducts : public ::testing::TestWithParam<ProductCase> {};

TEST_P(PipelineProducts, EqualOneRank) {
  const ProductCase& c = GetParam();
  expect_parity(train_on_ranks(c.layout, pipeline_problem(kProductRows, c.tied)),
                pipeline_on_one_rank(kProductRows, c.tied), kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Products, PipelineProducts, ::testing::ValuesIn(kProducts),
                         [](const auto& info) { return std::string(info.param.name); });

// A schedule of one's own: 1F1B whose second rank waits with its first backward.
TEST(PipelineParity, ScheduleFromCsv) {
  const pipeline::Schedule own = pipeline::read_schedule_csv(
      "0F0,0F1,0F2,0B0,0B1,0B2\n"
      ",1F0,1F1,1I0,1F2,1W0,1B1,1B2\n");
  const ParityLayout layout{
      .dims = {.pp = 2}, .num_ranks = 2, .own_schedule = own, .pipeline_microbatches = 3};
  expect_parity(train_on_ranks(layout, pipeline_problem(3, true)), pipeline_on_one_rank(3, true),
                kParityTolerance);
}

// The comparison notices a wrong mask: the mask of the first microbatch, used for all of them.
TEST(PipelineParity, FirstMicrobatchsMaskForAllIsNoticed) {
  constexpr int64_t kMicrobatches = 6;
  std::map<std::thread::id, BlockMask> first;  // ranks are threads
  std::mutex mutex;
  const ParityLayout layout{
      .dims = {.pp = 2},
      .num_ranks = 2,
      .pipeline_microbatches = kMicrobatches,
      .create_mask_fn = [&](const MaskMod& rule, const MaskShape& shape) {
        const std::lock_guard<std::mutex> lock(mutex);
        const BlockMask own = create_block_mask(rule, shape);
        return first.try_emplace(std::this_thread::get_id(), own).first->second;
      }};
  const ParityRun wrong = train_on_ranks(layout, pipeline_problem(kMicrobatches, false));
  const ParityRun& right = pipeline_on_one_rank(kMicrobatches, false);
  EXPECT_GT(std::abs(wrong.losses[0] - right.losses[0]), 1000 * kParityTolerance * right.losses[0]);
  const char* const name = "layers.0.attention.wq.weight";
  const at::Tensor& gradient = right.gradients.at(name);
  const at::Tensor difference = wrong.gradients.at(name) - gradient;
  EXPECT_GT(difference.abs().max().item<double>(), 0.1 * gradient.abs().max().item<double>());
}

// Masks of a whole batch, split, train like masks that are built for each microbatch, bit for bit.
TEST(PipelineParity, SplitMasksOfAWholeBatchGiveTheSame) {
  const ParityProblem problem = pipeline_problem(5, false);
  const pipeline::PipelinePlan plan = pipeline::plan_pipeline(
      {.num_ranks = 2, .num_layers = problem.model.n_layers, .num_microbatches = 3});
  const Batch batch = parity_rows(problem, 0, problem.num_rows);
  run_ranks(2, [&](const World& world) {
    const TrainedRank rank({.mesh = DeviceMesh(world, {.pp = 2}),
                            .pipeline = plan,
                            .parameters = double_parameters(),
                            .seed = 1},
                           llama_maker(problem.model));
    ParameterStore& parameters = rank.parameters();
    auto& passes = dynamic_cast<PipelinePasses&>(rank.model.passes());
    parameters.zero_gradients();
    passes.run({batch}, 1.0);
    const at::Tensor expected = parameters.gradients().clone();

    const AttentionMasks whole =
        rank.model.front().get_attention_masks(create_block_mask, batch, rank.tokenizer, {});
    EXPECT_EQ(whole.at("global").shape().batch, problem.num_rows);
    const std::vector<int64_t> sizes = pipeline::microbatch_sizes(problem.num_rows, 3);
    const std::vector<AttentionMasks> masks = whole.split(sizes);
    std::vector<MaskedBatch> microbatches;
    int64_t begin = 0;
    for (size_t m = 0; m < sizes.size(); ++m) {
      microbatches.push_back({batch.rows(begin, begin + sizes[m]), masks[m]});
      begin += sizes[m];
    }
    parameters.zero_gradients();
    passes.run_microbatches(microbatches, 1.0, true);
    EXPECT_GT(expected.abs().max().item<double>(), 0.0);
    EXPECT_TRUE(at::equal(parameters.gradients(), expected));
  });
}

}  // namespace
}  // namespace tessera::testing
