// Images next to text: N ranks equal one rank, encoder included, and extras reach the stage that
// reads them, of the right microbatch, and no other.
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "tests/parity/parity.h"
#include "tests/parity/vision_model.h"

namespace tessera::testing {
namespace {

constexpr int64_t kSlots = 7;  // not a number that ranks could share

ParityProblem vision_problem(VisionConfig config, int64_t num_slots = kSlots) {
  config.text = parity_llama();
  ParityProblem problem{.model = config.text, .num_steps = 3};
  problem.make = [config](const AttentionOp& attention, const ModelPlacement& placement) {
    return std::make_unique<VisionModel>(config, attention, placement);
  };
  problem.extras = [config, num_slots, seq_len = problem.seq_len](int64_t first, int64_t num_rows) {
    return image_rows(config, first, num_rows, seq_len, num_slots);
  };
  return problem;
}

const ParityRun& vision_on_one_rank(int64_t num_slots) {
  static std::map<int64_t, ParityRun> runs;
  const auto [place, is_new] = runs.try_emplace(num_slots);
  if (is_new) place->second = train_on_ranks({}, vision_problem({}, num_slots));
  return place->second;
}

struct ExtrasCase {
  const char* name;
  ParityLayout layout;
};

void PrintTo(const ExtrasCase& c, std::ostream* out) { *out << c.name; }

ParityLayout pipeline_of(const char* schedule) {
  return {.dims = {.pp = 2}, .num_ranks = 2, .schedule = schedule, .pipeline_microbatches = 4};
}

ParityLayout context_of(ContextMethod method, LoadBalancer balancer) {
  return {.dims = {.cp = 2}, .num_ranks = 2, .balancer = balancer, .method = method};
}

const ExtrasCase kExtrasCases[] = {
    {"accumulation", {.num_microbatches = 4}},
    {"fsdp2", {.num_ranks = 2, .num_microbatches = 2}},
    {"fsdp4_recompute", {.num_ranks = 4, .recompute_every = 1}},
    {"pp2_1f1b", pipeline_of("1F1B")},
    {"pp2_interleaved", pipeline_of("Interleaved1F1B")},
    {"pp2_zero_bubble", pipeline_of("InterleavedZeroBubble")},
    {"pp2_zbv", pipeline_of("ZBVZeroBubble")},
    {"cp2_needed_kv", context_of(ContextMethod::kNeededKv, LoadBalancer::kMinHeap)},
    {"cp2_all_gather", context_of(ContextMethod::kAllGather, LoadBalancer::kHeadTail)},
    {"cp2_ring", context_of(ContextMethod::kRing, LoadBalancer::kContiguous)},
    {"cp2_ulysses", context_of(ContextMethod::kAllToAll, LoadBalancer::kRoundRobin)},
    {"pp2_cp2", {.dims = {.cp = 2, .pp = 2}, .num_ranks = 4, .pipeline_microbatches = 4}},
    {"fsdp2_pp2_zero_bubble",
     {.dims = {.pp = 2},
      .num_ranks = 4,
      .schedule = "InterleavedZeroBubble",
      .pipeline_microbatches = 4}},
    {"fsdp2_cp2", {.dims = {.cp = 2}, .num_ranks = 4}},
};

class ExtrasParity : public ::testing::TestWithParam<ExtrasCase> {};

TEST_P(ExtrasParity, EqualsOneRank) {
  const ParityRun& expected = vision_on_one_rank(kSlots);
  ASSERT_TRUE(expected.gradients.contains("vision.layers.0.wqkv.weight"));
  expect_parity(train_on_ranks(GetParam().layout, vision_problem({})), expected, kParityTolerance);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ExtrasParity, ::testing::ValuesIn(kExtrasCases),
                         [](const auto& info) { return std::string(info.param.name); });

// With as many slots as tokens the encoder's mask has the tokens' length, and is still not cut.
TEST(ExtrasOnTheirWay, AsManySlotsAsTokens) {
  const ParityProblem problem = vision_problem({}, /*num_slots=*/24);
  ASSERT_EQ(problem.seq_len, 24);
  for (const ContextMethod method : {ContextMethod::kNeededKv, ContextMethod::kAllToAll}) {
    SCOPED_TRACE(to_string(method));
    const ParityLayout layout = context_of(method, LoadBalancer::kMinHeap);
    expect_parity(train_on_ranks(layout, problem), vision_on_one_rank(24), kParityTolerance);
  }
}

// The comparison notices when a microbatch gets the images of another.
TEST(ExtrasOnTheirWay, FirstMicrobatchsExtrasForAllAreNoticed) {
  Extras first;  // one rank has the encoder
  VisionConfig config;
  config.on_forward = [&first](bool has_encoder, ForwardInputs& inputs) {
    if (!has_encoder) return;
    if (first.empty()) first = inputs.extras;
    inputs.extras = first;
  };
  const ParityRun wrong = train_on_ranks(pipeline_of("1F1B"), vision_problem(config));
  const ParityRun& right = vision_on_one_rank(kSlots);
  EXPECT_GT(std::abs(wrong.losses[0] - right.losses[0]), 1000 * kParityTolerance * right.losses[0]);
  const char* const name = "vision.layers.0.wqkv.weight";
  const at::Tensor& gradient = right.gradients.at(name);
  const at::Tensor difference = wrong.gradients.at(name) - gradient;
  EXPECT_GT(difference.abs().max().item<double>(), 0.1 * gradient.abs().max().item<double>());
}

// The extras that the parts of a pipeline were handed in a pass, on all ranks.
struct Handed {
  std::vector<at::Tensor> patches;  // to the part with the encoder, in order
  int64_t others = 0;               // forwards of other parts
  int64_t others_with_extras = 0;
};

Handed handed_in_a_pass(ParityLayout layout) {
  Handed handed;
  std::mutex mutex;
  VisionConfig config;
  config.on_forward = [&](bool has_encoder, const ForwardInputs& inputs) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (has_encoder) {
      handed.patches.push_back(inputs.extras.patches_BPC);
    } else {
      ++handed.others;
      if (!inputs.extras.empty()) ++handed.others_with_extras;
    }
  };
  ParityProblem problem = vision_problem(config);
  problem.num_steps = 0;  // one pass, without an update
  train_on_ranks(layout, problem);
  return handed;
}

TEST(ExtrasOnTheirWay, OnlyTheStageWithTheEncoderGetsExtras) {
  for (const char* schedule : {"1F1B", "Interleaved1F1B"}) {
    SCOPED_TRACE(schedule);
    const Handed handed = handed_in_a_pass(pipeline_of(schedule));
    EXPECT_EQ(handed.others, std::string(schedule) == "1F1B" ? 4 : 3 * 4);
    EXPECT_EQ(handed.others_with_extras, 0);
    ASSERT_EQ(handed.patches.size(), 4u);
    for (int64_t m = 0; m < 4; ++m) {
      const at::Tensor expected =
          image_rows({.text = parity_llama()}, 2 * m, 2, /*seq_len=*/24, kSlots).patches_BPC;
      EXPECT_TRUE(handed.patches[static_cast<size_t>(m)].equal(expected)) << m;
    }
  }
}

// Ranks that share rows encode the images of all of them.
TEST(ExtrasOnTheirWay, ContextRanksHaveAllPatches) {
  const Handed handed =
      handed_in_a_pass(context_of(ContextMethod::kNeededKv, LoadBalancer::kMinHeap));
  ASSERT_EQ(handed.patches.size(), 2u);
  EXPECT_EQ(handed.patches[0].sizes(), (at::IntArrayRef{8, kSlots, 5}));
  EXPECT_TRUE(handed.patches[0].equal(handed.patches[1]));
}

}  // namespace
}  // namespace tessera::testing
