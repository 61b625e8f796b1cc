// The oracles of tests/golden/models: logits, losses and gradients of transformers on tiny random
// Llama models, read here from the same Hugging Face folders.
//
// Shape legend: B rows, T tokens, V vocabulary.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "data/files/safetensors.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "tests/models/llama3/hf_support.h"

namespace tessera {
namespace {

using at::Tensor;
using nlohmann::json;
using testing::golden;
using testing::make_folder;
using testing::materialised;
using testing::read_json;
using testing::TempDir;

double max_difference(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

struct Oracle {
  json facts;
  Batch batch;
  Tensor is_compared_BT;  // false at padding, whose queries are arbitrary in transformers
  Tensor logits_BTV;
  Tensor token_loss_BT;
};

Tensor document_ids_of(const json& doc_lens) {
  std::vector<int64_t> ids;
  for (const json& row : doc_lens) {
    int64_t id = 0;
    for (const json& length : row) ids.insert(ids.end(), length.get<size_t>(), id++);
  }
  return at::tensor(ids, at::kLong).view({static_cast<int64_t>(doc_lens.size()), -1});
}

Oracle read_oracle(const std::string& model, const std::string& name) {
  Oracle oracle;
  const json all = read_json(golden("models/llama_cases.json"));
  for (const json& facts : all["cases"]) {
    if (facts["name"] == model + "/" + name) oracle.facts = facts;
  }
  const SafetensorsFile io(golden("models/" + model + "/io.safetensors").string());
  const auto get = [&](const char* tensor) { return io.get(name + "/" + tensor); };
  Batch& batch = oracle.batch;
  batch.tokens_BT = get("input_ids");
  batch.labels_BT = get("labels");
  batch.positions_BT = at::arange(batch.tokens_BT.size(1)).expand(batch.tokens_BT.sizes());
  batch.document_ids_BT = at::zeros_like(batch.tokens_BT);
  oracle.is_compared_BT = at::ones_like(batch.tokens_BT, at::kBool);
  if (name == "packed") {
    batch.positions_BT = get("position_ids");
    batch.document_ids_BT = document_ids_of(oracle.facts["doc_lens"]);
  } else if (name == "right_padded") {
    oracle.is_compared_BT = get("attention_mask").to(at::kBool);
    batch.document_ids_BT = oracle.is_compared_BT.logical_not().to(at::kLong);
  }
  oracle.logits_BTV = get("logits");
  oracle.token_loss_BT = get("token_loss");
  return oracle;
}

struct Answer {
  Tensor logits_BTV;
  Tensor token_loss_BT;
};

Answer forward(Llama3& model, const Batch& batch) {
  batch.check();
  const AttentionMasks masks =
      model.get_attention_masks(create_block_mask, batch, ByteTokenizer(), {});
  const Tensor logits_BTV =
      model.forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT});
  const Tensor token_loss_BT =
      at::cross_entropy_loss(logits_BTV.flatten(0, 1), batch.labels_BT.flatten(), {},
                             /*reduction: none*/ 0, kIgnoreLabel)
          .view_as(batch.labels_BT);
  return {logits_BTV, token_loss_BT};
}

// Records for --gtest_output=xml how far apart model and oracle really are.
void record(const std::string& what, double difference) {
  std::ostringstream text;
  text << difference;
  ::testing::Test::RecordProperty(what, text.str());
}

// (model, case, style of config.json, backend)
using OracleParam = std::tuple<std::string, std::string, std::string, std::string>;

class HfOracle : public ::testing::TestWithParam<OracleParam> {
 protected:
  // The contract is 1e-4. Measured: logits within 6.2e-6, token losses 2.9e-6, gradients (and their
  // norms, up to 2.7) 8.9e-7; transformers' own float32 logits are 4e-6 from its float64.
  static constexpr double kTolerance = 1e-4;

  void SetUp() override {
    const auto& [model, name, config, backend] = GetParam();
    golden_ = golden("models/" + model);
    make_folder(dir_, model, read_json(golden_ / config).dump());
    oracle_ = read_oracle(model, name);
    model_ = materialised(read_hf_llama3_config(dir_.path().string()), backend, at::kFloat);
    load_hf_llama3(*model_, dir_.path().string());
  }

  void check_gradients() {
    double sum_of_squares = 0.0;
    double worst = 0.0;
    for (const ParameterSlot& slot : model_->parameters()) {
      const Tensor grad = to_hf_llama3_layout(model_->config(), slot.name, slot.tensor->grad());
      const double norm = grad.norm().item<double>();
      sum_of_squares += norm * norm;
      worst = std::max(worst, gradient_difference(hf_llama3_name(slot.name), grad, norm));
    }
    EXPECT_LT(worst, kTolerance);
    record("gradients", worst);
    EXPECT_NEAR(std::sqrt(sum_of_squares), oracle_.facts["grad_total_norm"].get<double>(),
                kTolerance);
  }

  // The largest difference of an element where the oracle has elements, else that of the norms.
  double gradient_difference(const std::string& hf_name, const Tensor& grad, double norm) const {
    if (!oracle_.facts.contains("grad_norms")) {
      const SafetensorsFile expected((golden_ / "grads_packed.safetensors").string());
      return max_difference(grad, expected.get(hf_name));
    }
    return std::abs(norm - oracle_.facts["grad_norms"].at(hf_name).get<double>());
  }

  TempDir dir_;
  std::filesystem::path golden_;
  Oracle oracle_;
  std::unique_ptr<Llama3> model_;
};

TEST_P(HfOracle, LogitsLossesAndGradientsAgree) {
  const Answer answer = forward(*model_, oracle_.batch);
  const Tensor compared_BT1 = oracle_.is_compared_BT.unsqueeze(-1);
  const double logits = max_difference(answer.logits_BTV.masked_fill(~compared_BT1, 0),
                                       oracle_.logits_BTV.masked_fill(~compared_BT1, 0));
  const double losses = max_difference(answer.token_loss_BT, oracle_.token_loss_BT);
  EXPECT_LT(logits, kTolerance);
  EXPECT_LT(losses, kTolerance);
  record("logits", logits);
  record("losses", losses);

  const int64_t num_valid = oracle_.batch.num_valid_labels();
  EXPECT_EQ(num_valid, oracle_.facts["valid_tokens"].get<int64_t>());
  const Tensor loss = answer.token_loss_BT.sum() / num_valid;
  EXPECT_NEAR(loss.item<double>(), oracle_.facts["loss_mean"].get<double>(), kTolerance);
  loss.backward();
  check_gradients();
}

std::string name_of(const ::testing::TestParamInfo<OracleParam>& info) {
  const auto& [model, name, config, backend] = info.param;
  return model + "_" + name + (config == "config.json" ? "_v5_" : "_v4_") + backend;
}

INSTANTIATE_TEST_SUITE_P(Cases, HfOracle,
                         ::testing::Combine(::testing::Values("llama", "llama_tied"),
                                            ::testing::Values("plain", "packed", "right_padded"),
                                            ::testing::Values("config.json", "config.v4.json"),
                                            ::testing::Values("eager", "flex", "sdpa")),
                         name_of);

// In float64 our rounding vanishes, and the difference that remains is the oracle's own float32
// noise, which its facts state.
TEST(HfOracleInFloat64, LogitsDifferByTheNoiseOfTheOracle) {
  for (const std::string model_name : {"llama", "llama_tied"}) {
    for (const std::string name : {"plain", "packed"}) {
      const Oracle oracle = read_oracle(model_name, name);
      const std::string folder = golden("models/" + model_name).string();
      const auto model = materialised(read_hf_llama3_config(folder), "eager", at::kDouble);
      load_hf_llama3(*model, folder);
      const double noise = oracle.facts["fp32_vs_fp64_logits"].get<double>();
      const double difference =
          max_difference(forward(*model, oracle.batch).logits_BTV, oracle.logits_BTV);
      record(model_name + "_" + name, difference / noise);  // seen: 1.04 to 1.3
      EXPECT_LT(difference, 2 * noise) << model_name << "/" << name;
    }
  }
}

}  // namespace
}  // namespace tessera
