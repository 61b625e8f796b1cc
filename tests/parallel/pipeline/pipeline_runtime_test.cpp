// The runtime on stages of one projection each: gradients equal those of the whole chain.
#include "parallel/pipeline/pipeline_runtime.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <atomic>
#include <deque>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "tests/support/errors.h"
#include "tests/support/run_ranks.h"

namespace tessera::pipeline {
namespace {

using at::Tensor;

constexpr int64_t kRows = 3, kDim = 4;

// A training problem that every rank makes alike. Microbatches differ in input and in a "mask" of
// factors that each stage applies and that has no gradient.
struct Problem {
  Problem(int64_t num_stages, int64_t num_microbatches) {
    const at::Tensor seed = at::arange(1, 1 + kDim * kDim, at::kDouble).view({kDim, kDim});
    for (int64_t s = 0; s < num_stages; ++s) {
      weights.push_back((seed * static_cast<double>(s + 1)).sin().set_requires_grad(true));
    }
    for (int64_t m = 0; m < num_microbatches; ++m) {
      const auto shift = static_cast<double>(m);
      inputs.push_back((seed.narrow(0, 0, kRows) + shift).cos());
      masks.push_back((seed.narrow(0, 0, kRows) * (shift + 2)).cos());
    }
  }

  Tensor stage(int64_t s, const Tensor& x, int64_t m, WeightGradients& deferred) const {
    const auto index = static_cast<size_t>(s);
    const Tensor y = at::tanh(deferred.linear(x, weights[index])) * masks[static_cast<size_t>(m)];
    return index + 1 == weights.size() ? y.square().sum() : y;
  }

  // Losses and gradients without any pipeline.
  std::vector<double> whole(double loss_gradient) const {
    std::vector<double> losses;
    WeightGradients at_once;
    for (size_t m = 0; m < inputs.size(); ++m) {
      Tensor h = inputs[m];
      for (size_t s = 0; s < weights.size(); ++s) {
        h = stage(static_cast<int64_t>(s), h, static_cast<int64_t>(m), at_once);
      }
      torch::autograd::backward({h}, {at::full_like(h, loss_gradient)});
      losses.push_back(h.item<double>());
    }
    return losses;
  }

  PipelineInputs pipeline_inputs(double loss_gradient) const {
    return {.first_inputs = inputs,
            .activation_shapes = std::vector<std::vector<int64_t>>(inputs.size(), {kRows, kDim}),
            .activation_options = at::kDouble,
            .loss_gradient = loss_gradient};
  }

  std::vector<Tensor> weights, inputs, masks;
};

// A rank's stages of a problem.
struct RankStages {
  RankStages(const Problem& problem, const std::vector<int64_t>& own) {
    for (const int64_t s : own) {
      WeightGradients& sink = deferred.emplace_back();
      stages.push_back(
          {.forward = [&problem, &sink, s](const Tensor& x,
                                           int64_t m) { return problem.stage(s, x, m, sink); },
           .weight_gradients = &sink});
    }
  }
  std::deque<WeightGradients> deferred;
  std::vector<RuntimeStage> stages;
};

class PipelineRuntimeTest : public ::testing::TestWithParam<std::tuple<const char*, int64_t>> {};

TEST_P(PipelineRuntimeTest, GradientsAreThoseOfTheWholeChain) {
  const auto [name, num_ranks] = GetParam();
  const int64_t num_microbatches = 2 * num_ranks;
  const Schedule schedule =
      make_schedule(name, {.num_ranks = num_ranks, .num_microbatches = num_microbatches});
  const ExecutionPlan plan = derive_communication(schedule);
  const Problem expected(schedule.num_stages(), num_microbatches);
  const std::vector<double> losses = expected.whole(0.5);
  testing::run_ranks(num_ranks, [&](const World& world) {
    const Problem problem(schedule.num_stages(), num_microbatches);
    const std::vector<int64_t> own = plan.placement.stages_of(world.rank());
    RankStages stages(problem, own);
    int64_t num_reduced = 0;
    for (RuntimeStage& stage : stages.stages) stage.reduce_gradients = [&] { ++num_reduced; };
    PipelineRuntime runtime(plan, world.all(), stages.stages);
    const std::vector<Tensor> got = runtime.run(problem.pipeline_inputs(0.5));

    EXPECT_EQ(num_reduced, static_cast<int64_t>(own.size()));
    const bool has_loss = own.back() == schedule.num_stages() - 1;
    ASSERT_EQ(got.size(), has_loss ? losses.size() : 0U);
    for (size_t m = 0; m < got.size(); ++m) EXPECT_NEAR(got[m].item<double>(), losses[m], 1e-13);
    for (const int64_t s : own) {
      const Tensor& gradient = expected.weights[static_cast<size_t>(s)].grad();
      EXPECT_TRUE(at::allclose(problem.weights[static_cast<size_t>(s)].grad(), gradient, 1e-12, 0))
          << "stage " << s;
      EXPECT_GT(gradient.abs().max().item<double>(), 0);
    }
    // A second pass adds, and only the last one reduces.
    PipelineInputs again = problem.pipeline_inputs(-0.5);
    again.is_last = false;
    runtime.run(again);
    EXPECT_EQ(num_reduced, static_cast<int64_t>(own.size()));
    for (const int64_t s : own) {
      EXPECT_LT(problem.weights[static_cast<size_t>(s)].grad().abs().max().item<double>(), 1e-12);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Schedules, PipelineRuntimeTest,
                         ::testing::Combine(::testing::Values("GPipe", "1F1B", "Interleaved1F1B",
                                                              "LoopedBFS", "InterleavedZeroBubble",
                                                              "ZBVZeroBubble", "DualPipeV"),
                                            ::testing::Values(2, 3)),
                         [](const auto& info) {
                           return "_" + std::string(std::get<0>(info.param)) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

// At every moment a rank holds the graphs of the microbatches between forward and backward only.
TEST(PipelineRuntime, FreesActivationsWithTheirBackward) {
  constexpr int64_t kRanks = 2, kMicrobatches = 6;
  const ExecutionPlan plan = derive_communication(
      make_schedule("1F1B", {.num_ranks = kRanks, .num_microbatches = kMicrobatches}));
  testing::run_ranks(kRanks, [&](const World& world) {
    const Problem problem(kRanks, kMicrobatches);
    RankStages stages(problem, {world.rank()});
    std::vector<c10::weak_intrusive_ptr<at::TensorImpl>> outputs;
    size_t most_alive = 0;
    const auto inner = stages.stages[0].forward;
    stages.stages[0].forward = [&](const Tensor& x, int64_t m) {
      const Tensor y = inner(x, m);
      outputs.emplace_back(y.getIntrusivePtr());
      size_t alive = 0;
      for (const auto& output : outputs) alive += output.expired() ? 0 : 1;
      most_alive = std::max(most_alive, alive);
      return y;
    };
    PipelineRuntime(plan, world.all(), stages.stages).run(problem.pipeline_inputs(1));
    EXPECT_EQ(most_alive, static_cast<size_t>(kRanks - world.rank()));  // 1F1B: ranks behind it
    for (const auto& output : outputs) EXPECT_TRUE(output.expired());
  });
}

TEST(PipelineRuntime, NotesWhenItComputed) {
  const ExecutionPlan plan =
      derive_communication(make_schedule("GPipe", {.num_ranks = 1, .num_microbatches = 2}));
  const Problem problem(1, 2);
  RankStages stages(problem, {0});
  PipelineRuntime runtime(plan, ProcessGroup(), stages.stages);
  std::vector<ActionTime> times;
  runtime.record_times(&times);
  runtime.run(problem.pipeline_inputs(1));
  ASSERT_EQ(times.size(), 4U);
  EXPECT_EQ(to_string(times[0].action), "0F0");
  EXPECT_EQ(to_string(times[3].action), "0B1");
  for (size_t i = 0; i < times.size(); ++i) {
    EXPECT_LT(times[i].start_s, times[i].end_s);
    EXPECT_LE(i == 0 ? 0.0 : times[i - 1].end_s, times[i].start_s);
  }
}

// One rank's stage fails. It leaves, and the others, which wait for it, fail because of that and
// not by the limit of their operations.
TEST(PipelineRuntime, LostStageEndsAllRanks) {
  constexpr int64_t kRanks = 4;
  const ExecutionPlan plan =
      derive_communication(make_schedule("1F1B", {.num_ranks = kRanks, .num_microbatches = 8}));
  std::atomic<int> num_comm_errors = 0, num_own_errors = 0;
  EXPECT_ERROR(testing::run_ranks(
                   kRanks,
                   [&](const World& world) {
                     const Problem problem(kRanks, 8);
                     RankStages stages(problem, {world.rank()});
                     const auto inner = stages.stages[0].forward;
                     stages.stages[0].forward = [&](const Tensor& x, int64_t m) {
                       TORCH_CHECK(world.rank() != 2 || m != 3, "stage 2 is killed");
                       return inner(x, m);
                     };
                     PipelineRuntime runtime(plan, world.all(), stages.stages);
                     try {
                       runtime.run(problem.pipeline_inputs(1));
                     } catch (const CommError& error) {
                       ++num_comm_errors;
                       EXPECT_EQ(std::string(error.what()).find("Timed out"), std::string::npos)
                           << error.what();
                       throw;
                     } catch (const c10::Error&) {
                       ++num_own_errors;
                       throw;
                     }
                   }),
               "stage 2 is killed");
  EXPECT_EQ(num_comm_errors, kRanks - 1);
  EXPECT_EQ(num_own_errors, 1);
}

TEST(PipelineRuntime, DropsWhatWasPutOffWhenAStageFails) {
  const ExecutionPlan plan = derive_communication(make_schedule(
      "InterleavedZeroBubble", {.num_ranks = 1, .num_microbatches = 2, .stages_per_rank = 1}));
  const Problem problem(1, 2);
  RankStages stages(problem, {0});
  const auto inner = stages.stages[0].forward;
  stages.stages[0].forward = [&](const Tensor& x, int64_t m) {
    TORCH_CHECK(m == 0, "no");
    stages.deferred[0].linear(x, problem.weights[0]);
    return inner(x, m);
  };
  PipelineRuntime runtime(plan, ProcessGroup(), stages.stages);
  EXPECT_ERROR(runtime.run(problem.pipeline_inputs(1)), "no");
  EXPECT_EQ(stages.deferred[0].num_deferred(), 0);
}

TEST(PipelineRuntime, RefusesWhatDoesNotFitThePlan) {
  const ExecutionPlan plan = derive_communication(make_schedule(
      "InterleavedZeroBubble", {.num_ranks = 1, .num_microbatches = 2, .stages_per_rank = 2}));
  const Problem problem(2, 2);
  RankStages good(problem, {0, 1});
  EXPECT_ERROR(PipelineRuntime(plan, ProcessGroup(), {good.stages[0]}), "given 1 stages",
               "expected 2");
  RankStages unsplit(problem, {0, 1});
  unsplit.stages[1].weight_gradients = nullptr;
  EXPECT_ERROR(PipelineRuntime(plan, ProcessGroup(), unsplit.stages), "stage 1",
               "weight_gradients");
  const ExecutionPlan two_ranks =
      derive_communication(make_schedule("1F1B", {.num_ranks = 2, .num_microbatches = 2}));
  EXPECT_ERROR(PipelineRuntime(two_ranks, ProcessGroup(), {good.stages[0]}), "2 ranks", "has 1");

  PipelineRuntime runtime(plan, ProcessGroup(), good.stages);
  PipelineInputs inputs = problem.pipeline_inputs(1);
  inputs.first_inputs.pop_back();
  EXPECT_ERROR(runtime.run(inputs), "1 inputs", "2 microbatches");
  inputs = problem.pipeline_inputs(1);
  inputs.activation_shapes.pop_back();
  EXPECT_ERROR(runtime.run(inputs), "1 activation shapes", "2 microbatches");
  inputs = problem.pipeline_inputs(1);
  inputs.activation_shapes[1] = {kRows, kDim + 1};
  EXPECT_ERROR(runtime.run(inputs), "stage 0", "microbatch 1", "[3, 4]", "[3, 5]");
}

}  // namespace
}  // namespace tessera::pipeline
