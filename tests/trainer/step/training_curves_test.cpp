// The product's loss-parity promise: TorchTitan's curves, step by step, from the same weights and
// tokens.
#include <ATen/ops/arange.h>
#include <ATen/ops/cumsum.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files/safetensors.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "parallel/activation_checkpoint.h"
#include "tests/support/golden.h"
#include "tests/support/rank_model.h"
#include "tests/support/small_models.h"
#include "trainer/step/lr_schedule.h"

namespace tessera {
namespace {

using testing::golden;

constexpr int64_t kSteps = 50;
constexpr double kBaseLr = 0.01;
// An independent float32 implementation stays within 1e-6 of these curves; the issue allows 1e-5.
constexpr double kTolerance = 1e-5;

Llama3Config golden_config(const std::string& mask_rule) {
  Llama3Config config = testing::small_llama({.ffn_dim = 96, .vocab_size = 128});
  config.rope_theta = 10000.0;
  config.max_seq_len = 64;
  config.mask_rule = mask_rule;
  return config;
}

// One microbatch of the stored runs: documents end with token 0, positions run through the row.
Batch golden_batch(const at::Tensor& inputs_BT, const at::Tensor& labels_BT) {
  Batch batch;
  batch.tokens_BT = inputs_BT.to(at::kLong);
  batch.labels_BT = labels_BT.to(at::kLong);
  const at::Tensor ends_BT = batch.tokens_BT.eq(0).to(at::kLong);
  batch.document_ids_BT = at::cumsum(ends_BT, 1).sub(ends_BT);
  batch.positions_BT = at::arange(batch.seq_len()).expand_as(batch.tokens_BT).contiguous();
  return batch;
}

struct CurveRun {
  nlohmann::json expected;
  std::unique_ptr<RankModel> model;
  ParameterStore* parameters = nullptr;
  std::unique_ptr<TrainingStep> step;
  ByteTokenizer tokenizer;
  at::Tensor inputs, labels;

  CurveRun(const std::string& name, const std::string& attention, int64_t recompute_every = 0) {
    std::ifstream file(golden("training/curves.json"));
    const nlohmann::json curves = nlohmann::json::parse(file);
    for (const auto& run : curves["runs"]) {
      if (run["name"] == name) expected = run;
    }
    const SafetensorsFile batches(golden("training/batches_" + name + ".safetensors"));
    inputs = batches.get("inputs");
    labels = batches.get("labels");

    const Llama3Config config = golden_config(name == "causal" ? "causal" : "causal & document");
    model =
        std::make_unique<RankModel>(RankModelOptions{.recompute_every_nth_layer = recompute_every},
                                    testing::llama_maker(config, attention));
    model->materialise(tokenizer, create_block_mask);
    parameters = &model->parameters();
    load_initial_weights();
    step = std::make_unique<TrainingStep>(
        *model, TrainingStepOptions{.max_norm = expected["max_norm"], .adamw = {}});
  }

  void load_initial_weights() {
    const SafetensorsFile init(golden("training/init.safetensors"));
    for (auto& [name, master] : parameters->named_masters()) master.copy_(init.get(name));
    parameters->refresh();
  }

  StepResult run_step(int64_t index) {
    std::vector<Batch> microbatches;
    for (int64_t m = 0; m < inputs.size(1); ++m) {
      microbatches.push_back(golden_batch(inputs[index][m], labels[index][m]));
    }
    return step->run(microbatches,
                     kBaseLr * lr_factor({.steps = kSteps, .warmup_steps = 2}, index));
  }
};

class TrainingCurves : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(TrainingCurves, FollowTorchTitanStepByStep) {
  const auto& [name, attention] = GetParam();
  CurveRun run(name, attention);
  ASSERT_EQ(run.expected["steps"].size(), kSteps);
  double worst_loss = 0, worst_norm = 0;
  for (int64_t i = 0; i < kSteps; ++i) {
    const nlohmann::json& expected = run.expected["steps"][i];
    const StepResult got = run.run_step(i);
    const double loss = expected["loss"], norm = expected["grad_norm"];
    ASSERT_NEAR(got.loss, loss, kTolerance * loss) << "step " << i + 1;
    ASSERT_NEAR(got.grad_norm, norm, kTolerance * norm) << "step " << i + 1;
    ASSERT_EQ(got.num_valid_labels, expected["valid_tokens"].get<int64_t>()) << "step " << i + 1;
    const double lr = expected["lr"];
    ASSERT_NEAR(kBaseLr * lr_factor({.steps = kSteps, .warmup_steps = 2}, i), lr, 1e-5 * lr)
        << "step " << i + 1;
    worst_loss = std::max(worst_loss, std::abs(got.loss / loss - 1));
    worst_norm = std::max(worst_norm, std::abs(got.grad_norm / norm - 1));
  }
  RecordProperty("largest_relative_loss_difference", std::to_string(worst_loss));
  RecordProperty("largest_relative_grad_norm_difference", std::to_string(worst_norm));
}

INSTANTIATE_TEST_SUITE_P(
    Runs, TrainingCurves,
    ::testing::Combine(::testing::Values("causal", "block_causal", "block_causal_accumulate"),
                       ::testing::Values("eager", "flex", "sdpa")),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

TEST(TrainingCurvesTest, FinalWeightsEqualTorchTitans) {
  CurveRun run("block_causal", "sdpa");
  for (int64_t i = 0; i < kSteps; ++i) run.run_step(i);
  const SafetensorsFile expected(golden("training/final_block_causal.safetensors"));
  for (const auto& [name, master] : run.parameters->named_masters()) {
    // AdamW's update is of size lr whatever the gradient's size: entries with gradients near 0
    // wander most.
    const double difference = master.sub(expected.get(name)).norm().item<double>();
    EXPECT_LT(difference, 1e-4 * expected.get(name).norm().item<double>()) << name;
  }
}

TEST(TrainingCurvesTest, ActivationCheckpointingChangesNoBit) {
  CurveRun plain("block_causal_accumulate", "sdpa");
  for (const int64_t every_n : {1, 2}) {
    CurveRun run("block_causal_accumulate", "sdpa", every_n);
    plain.load_initial_weights();
    plain.step = std::make_unique<TrainingStep>(*plain.model, TrainingStepOptions{});
    run.step = std::make_unique<TrainingStep>(*run.model, TrainingStepOptions{});
    for (int64_t i = 0; i < 5; ++i) {
      const StepResult a = plain.run_step(i), b = run.run_step(i);
      EXPECT_EQ(a.loss, b.loss) << "step " << i + 1;
      EXPECT_EQ(a.grad_norm, b.grad_norm) << "step " << i + 1;
      EXPECT_TRUE(plain.parameters->gradients().equal(run.parameters->gradients()))
          << "step " << i + 1;
    }
  }
}

}  // namespace
}  // namespace tessera
