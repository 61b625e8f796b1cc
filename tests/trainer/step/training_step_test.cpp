#include "trainer/step/training_step.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>

#include "data/loader/dataloader.h"
#include "tests/support/errors.h"
#include "tests/support/rank_model.h"
#include "tests/support/small_models.h"

namespace tessera {
namespace {

using testing::double_parameters;
using testing::llama_maker;
using testing::small_llama;
using testing::TrainedRank;

// Rows of 24 tokens with documents of uneven length, so that rows have different numbers of valid
// labels.
Batch rows_of_24(int64_t num_rows) {
  std::vector<std::vector<int64_t>> documents;
  int64_t state = 7;
  for (int64_t total = 0; total < (num_rows + 1) * 25; total += documents.back().size()) {
    std::vector<int64_t> document(1 + state % 11);
    for (int64_t& token : document) token = (state = (state * 5 + 3) % 61);
    documents.push_back(std::move(document));
  }
  return pack_documents(documents, 24).rows(0, num_rows);
}

struct Fixture : TrainedRank {
  Model& front = model.front();

  explicit Fixture(const ParameterStoreOptions& options = {},
                   const CreateMaskFn& create_mask_fn = create_block_mask, double max_norm = 1.0)
      : TrainedRank({.parameters = options, .seed = 1}, llama_maker(small_llama()),
                    {.max_norm = max_norm, .adamw = {}}, create_mask_fn) {}
};

const ParameterStoreOptions kDouble = double_parameters();

std::vector<Batch> split_rows(const Batch& batch, const std::vector<int64_t>& sizes) {
  std::vector<Batch> parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    parts.push_back(batch.rows(begin, begin + size));
    begin += size;
  }
  return parts;
}

TEST(TrainingStepTest, AccumulationWithUnevenLabelsEqualsOneLargeBatch) {
  const Batch batch = rows_of_24(6);
  EXPECT_NE(batch.rows(0, 1).num_valid_labels(), batch.rows(1, 6).num_valid_labels() / 5)
      << "rows with equally many labels would hide a wrong mean";
  Fixture whole(kDouble);
  const StepResult expected = whole.step->accumulate_gradients({batch});
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{3, 3}, {1, 5}, {1, 1, 1, 1, 1, 1}, {4, 2}}) {
    Fixture parts(kDouble);
    const StepResult got = parts.step->accumulate_gradients(split_rows(batch, sizes));
    EXPECT_NEAR(got.loss, expected.loss, 1e-13 * expected.loss);
    EXPECT_NEAR(got.grad_norm, expected.grad_norm, 1e-12 * expected.grad_norm);
    EXPECT_EQ(got.num_valid_labels, expected.num_valid_labels);
    EXPECT_TRUE(
        parts.parameters().gradients().allclose(whole.parameters().gradients(), 1e-10, 1e-14));
  }
}

TEST(TrainingStepTest, MasksAreBuiltOncePerMicrobatchAndNowhereElse) {
  int64_t num_calls = 0;
  const CreateMaskFn counting = [&](const MaskMod& rule, const MaskShape& shape) {
    ++num_calls;
    EXPECT_EQ(rule.to_string(), "causal & document");
    return create_block_mask(rule, shape);
  };
  Fixture f({}, counting);
  const Batch batch = rows_of_24(4);
  f.step->run(split_rows(batch, {2, 1, 1}), 1e-3);
  EXPECT_EQ(num_calls, 3);
  for (Block* block : f.front.blocks()) block->recompute = true;
  f.step->run({batch}, 1e-3);
  EXPECT_EQ(num_calls, 4);
}

TEST(TrainingStepTest, ClipsToTheNorm) {
  const Batch batch = rows_of_24(2);
  Fixture free(kDouble, create_block_mask, 1e9);
  const StepResult result = free.step->accumulate_gradients({batch});
  const double max_norm = result.grad_norm / 4;
  Fixture clipped(kDouble, create_block_mask, max_norm);
  EXPECT_EQ(clipped.step->run({batch}, 0.0).grad_norm, result.grad_norm);
  const double norm_after =
      gradient_norm(clipped.parameters().named(clipped.parameters().gradients()), {});
  EXPECT_NEAR(norm_after, max_norm * result.grad_norm / (result.grad_norm + 1e-6),
              1e-12 * max_norm);
  free.step->run({batch}, 0.0);
  EXPECT_NEAR(gradient_norm(free.parameters().named(free.parameters().gradients()), {}),
              result.grad_norm, 1e-12 * result.grad_norm);
}

TEST(TrainingStepTest, MixedPrecisionKeepsFloat32Masters) {
  Fixture f({.device = at::kCPU, .master_dtype = at::kFloat, .compute_dtype = at::kBFloat16});
  const Batch batch = rows_of_24(4);
  EXPECT_EQ(f.front.head_weight().scalar_type(), at::kBFloat16);
  EXPECT_EQ(f.parameters().gradients().scalar_type(), at::kFloat);
  Fixture exact(kDouble);
  const StepResult got = f.step->run({batch}, 1e-3);
  const StepResult expected = exact.step->run({batch}, 1e-3);
  // bfloat16 rounds each of some hundred products to 2^-9; the loss averages over about 90 labels.
  EXPECT_NEAR(got.loss, expected.loss, expected.loss / 256);
  EXPECT_NEAR(got.grad_norm, expected.grad_norm, expected.grad_norm / 32);
  for (const auto& [name, master] : f.parameters().named_masters()) {
    EXPECT_EQ(master.scalar_type(), at::kFloat) << name;
    EXPECT_FALSE(master.equal(master.to(at::kBFloat16).to(at::kFloat))) << name << " was rounded";
  }
  const at::Tensor head = f.parameters().named_masters().back().second;
  EXPECT_TRUE(f.front.head_weight().equal(head.to(at::kBFloat16)));
}

TEST(TrainingStepTest, SameStepsTwiceAreBitwiseEqual) {
  std::vector<double> losses;
  for (int run = 0; run < 2; ++run) {
    Fixture f;
    for (int i = 0; i < 4; ++i) losses.push_back(f.step->run({rows_of_24(4)}, 1e-2).loss);
  }
  for (int i = 0; i < 4; ++i) EXPECT_EQ(losses[i], losses[i + 4]) << "step " << i + 1;
}

TEST(TrainingStepTest, ThreadsChangeNothingBeyondRounding) {
  const int num_threads = at::get_num_threads();
  std::vector<double> losses;
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    Fixture f;
    for (int i = 0; i < 4; ++i) losses.push_back(f.step->run({rows_of_24(8)}, 1e-2).loss);
  }
  at::set_num_threads(num_threads);
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(losses[i], losses[i + 4], 1e-6 * losses[i]) << "step " << i + 1;
}

TEST(TrainingStepTest, NonFiniteLossNamesTheFirstLayerAndLeavesTheWeights) {
  Fixture f;
  // Every weight is finite, but the layer's output overflows.
  for (auto& [name, master] : f.parameters().named_masters()) {
    if (name.rfind("layers.1.feed_forward.", 0) == 0) master.fill_(1e20);
  }
  const at::Tensor before = f.parameters().masters().clone();
  EXPECT_ERROR(f.step->run({rows_of_24(2)}, 1e-3), "the loss is", "the output of block layers.1");
  EXPECT_TRUE(f.parameters().masters().equal(before));
}

TEST(TrainingStepTest, NonFiniteParameterIsNamed) {
  Fixture f;
  for (auto& [name, master] : f.parameters().named_masters()) {
    if (name == "layers.0.attention.wq.weight")
      master.view({-1})[3] = std::numeric_limits<float>::quiet_NaN();
  }
  EXPECT_ERROR(f.step->run({rows_of_24(2)}, 1e-3), "the loss is nan",
               "parameter layers.0.attention.wq.weight");
}

TEST(TrainingStepTest, ExtrasThatTheModelDoesNotReadAreRefused) {
  Fixture f;
  Batch batch = rows_of_24(2);
  batch.extras = {.patches_BPC = at::zeros({2, 3, 2}),
                  .image_ids_BP = at::zeros({2, 3}, at::kLong),
                  .feature_of_token_BT = at::zeros({2, 24}, at::kLong)};
  EXPECT_ERROR(f.step->run({rows_of_24(2), batch}, 1e-3), "Batch::extras", "patches_BPC [2, 3, 2]",
               "expected no extras", "llama3 debugmodel");
}

TEST(TrainingStepTest, StepWithoutLabelsIsRefused) {
  Fixture f;
  Batch batch = rows_of_24(2);
  batch.labels_BT = batch.labels_BT.clone().fill_(kIgnoreLabel);
  EXPECT_ERROR(f.step->run({batch}, 1e-3), "no label of this step is valid");
}

}  // namespace
}  // namespace tessera
