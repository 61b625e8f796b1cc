#include "models/llama3/hf.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "data/files/safetensors.h"
#include "tests/models/llama3/hf_support.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using at::Tensor;
using nlohmann::json;
using testing::golden;
using testing::make_folder;
using testing::materialised;
using testing::read_json;
using testing::TempDir;

// ----------------------------------------------------------------------------------- config.json

class HfConfig : public ::testing::Test {
 protected:
  void SetUp() override { config_ = read_json(golden("models/llama_tied/config.json")); }

  Llama3Config read(const json& config) {
    dir_.write("model-folder/config.json", config.dump());
    return read_hf_llama3_config((dir_.path() / "model-folder").string());
  }
  void expect_error(const std::string& key, const json& value,
                    std::initializer_list<std::string> parts) {
    json config = config_;
    config[json::json_pointer(key)] = value;
    const std::string message = testing::message_of([&] { read(config); });
    EXPECT_NE(message.find("model-folder/config.json"), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "expected " << part << " in: " << message;
    }
  }

  TempDir dir_;
  json config_;
};

TEST_F(HfConfig, ReadsBothStyles) {
  for (const char* file : {"config.json", "config.v4.json"}) {
    const Llama3Config config = read(read_json(golden("models/llama_tied") / file));
    EXPECT_EQ(config.flavor, "model-folder");
    EXPECT_EQ(config.dim, 32);
    EXPECT_EQ(config.n_layers, 2);
    EXPECT_EQ(config.n_heads, 4);
    EXPECT_EQ(config.n_kv_heads, 4);
    EXPECT_EQ(config.head_dim, 8);
    EXPECT_EQ(config.ffn_dim, 64);
    EXPECT_EQ(config.vocab_size, 192);
    EXPECT_EQ(config.norm_eps, 1e-5);
    EXPECT_EQ(config.rope_theta, 500000.0);
    EXPECT_EQ(config.rope_scaling, (RopeScaling{8.0, 1.0, 4.0, 32}));
    EXPECT_TRUE(config.tied_embeddings);
    EXPECT_EQ(config.max_seq_len, 256);
  }
  for (const char* file : {"config.json", "config.v4.json"}) {
    const Llama3Config config = read(read_json(golden("models/llama") / file));
    EXPECT_EQ(config.n_kv_heads, 2);
    EXPECT_EQ(config.rope_theta, 10000.0);
    EXPECT_EQ(config.rope_scaling, std::nullopt);
    EXPECT_FALSE(config.tied_embeddings);
  }
}

TEST_F(HfConfig, TakesTransformersDefaultsForWhatIsAbsentOrNull) {
  for (const char* key :
       {"num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings", "rope_parameters",
        "max_position_embeddings", "hidden_act", "attention_bias", "mlp_bias"}) {
    config_.erase(key);
  }
  config_["attention_dropout"] = nullptr;
  const Llama3Config config = read(config_);
  EXPECT_EQ(config.n_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_EQ(config.rope_scaling, std::nullopt);
  EXPECT_EQ(config.max_seq_len, 2048);
}

TEST_F(HfConfig, ReadsTheOldestSpellingOfRopeScaling) {
  config_["rope_scaling"] = config_["rope_parameters"];
  config_.erase("rope_parameters");
  config_["rope_scaling"].erase("rope_type");
  config_["rope_scaling"].erase("rope_theta");
  config_["rope_scaling"]["type"] = "llama3";
  config_["rope_theta"] = 7000;
  const Llama3Config config = read(config_);
  EXPECT_EQ(config.rope_theta, 7000.0);
  EXPECT_EQ(config.rope_scaling, (RopeScaling{8.0, 1.0, 4.0, 32}));
}

TEST_F(HfConfig, RefusesWhatTheModelLacks) {
  expect_error("/model_type", "gemma3", {"model_type", "gemma3", "llama"});
  expect_error("/model_type", nullptr, {"model_type"});
  expect_error("/hidden_act", "gelu", {"hidden_act", "gelu", "silu"});
  expect_error("/attention_bias", true, {"attention_bias", "true"});
  expect_error("/mlp_bias", true, {"mlp_bias", "true"});
  expect_error("/attention_dropout", 0.1, {"attention_dropout", "0.1"});
  expect_error("/quantization_config", {{"bits", 4}}, {"quantization_config"});
  expect_error("/rope_parameters/rope_type", "yarn", {"rope_parameters", "rope_type", "yarn"});
  expect_error("/rope_parameters/partial_rotary_factor", 0.5, {"partial_rotary_factor", "0.5"});
  expect_error("/rope_scaling", {{"rope_type", "llama3"}}, {"rope_parameters", "rope_scaling"});
}

TEST_F(HfConfig, RefusesWrongValues) {
  expect_error("/hidden_size", nullptr, {"hidden_size", "missing"});
  expect_error("/hidden_size", "32", {"hidden_size", "\"32\"", "an integer"});
  expect_error("/hidden_size", 0, {"hidden_size", "0", ">= 1"});
  expect_error("/vocab_size", -1, {"vocab_size", "-1"});
  expect_error("/num_hidden_layers", 2.5, {"num_hidden_layers", "2.5"});
  expect_error("/rms_norm_eps", 0, {"rms_norm_eps", "0", "> 0"});
  expect_error("/rms_norm_eps", true, {"rms_norm_eps", "true"});
  expect_error("/tie_word_embeddings", 1, {"tie_word_embeddings", "1"});
  expect_error("/hidden_act", 1, {"hidden_act", "1"});
  expect_error("/rope_parameters", 1, {"rope_parameters", "1", "an object"});
  expect_error("/rope_parameters/factor", nullptr, {"rope_parameters", "factor", "missing"});
  expect_error("/rope_parameters/rope_theta", "x", {"rope_parameters", "rope_theta", "\"x\""});
  expect_error("/num_key_value_heads", 3, {"4", "3"});
  expect_error("/head_dim", 7, {"head_dim", "7"});
}

TEST_F(HfConfig, ReportsAFileThatIsNotThereOrNotJson) {
  EXPECT_ERROR(read_hf_llama3_config("/no/such"), "cannot open /no/such/config.json",
               "No such file or directory");
  dir_.write("config.json", "{");
  EXPECT_ERROR(read_hf_llama3_config(dir_.path().string()), "config.json", "not valid JSON");
  dir_.write("config.json", "[]");
  EXPECT_ERROR(read_hf_llama3_config(dir_.path().string()), "config.json", "expected an object");
}

// ------------------------------------------------------------------------------ names and layout

TEST(HfNames, AreTheHubs) {
  EXPECT_EQ(hf_llama3_name("tok_embeddings.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(hf_llama3_name("norm.weight"), "model.norm.weight");
  EXPECT_EQ(hf_llama3_name("output.weight"), "lm_head.weight");
  EXPECT_EQ(hf_llama3_name("layers.12.attention.wk.weight"),
            "model.layers.12.self_attn.k_proj.weight");
  EXPECT_EQ(hf_llama3_name("layers.0.feed_forward.w2.weight"),
            "model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(hf_llama3_name("layers.0.ffn_norm.weight"),
            "model.layers.0.post_attention_layernorm.weight");
  for (const char* other :
       {"", "weight", "layers.norm.weight", "layers..ffn_norm.weight", "layers.1", "layers.1.",
        "layers.1.attention.wx.weight", "x.layers.1.ffn_norm.weight", "layers.1ffn_norm.weight"}) {
    EXPECT_ERROR(hf_llama3_name(other), "no parameter", std::string("\"") + other + "\"");
  }
}

TEST(HfLayout, InterleavesTheHalvesOfEachHead) {
  const Llama3Config config{.n_heads = 2, .n_kv_heads = 1, .head_dim = 6};
  const auto rows_of = [&](const char* name, int64_t num_rows) {
    const Tensor theirs = at::arange(num_rows).unsqueeze(1).expand({num_rows, 3});
    const Tensor ours = from_hf_llama3_layout(config, name, theirs);
    EXPECT_TRUE(to_hf_llama3_layout(config, name, ours).equal(theirs));
    const Tensor rows = ours.select(1, 2).contiguous();
    return std::vector<int64_t>(rows.const_data_ptr<int64_t>(),
                                rows.const_data_ptr<int64_t>() + num_rows);
  };
  EXPECT_EQ(rows_of("layers.0.attention.wq.weight", 12),
            (std::vector<int64_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
  EXPECT_EQ(rows_of("layers.0.attention.wk.weight", 6), (std::vector<int64_t>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(rows_of("layers.0.attention.wv.weight", 6), (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_ERROR(from_hf_llama3_layout(config, "layers.0.attention.wk.weight", at::zeros({12, 3})),
               "layers.0.attention.wk.weight", "[12, 3]", "6 rows");
  EXPECT_ERROR(to_hf_llama3_layout(config, "layers.0.attention.wq.weight", at::zeros({12})),
               "layers.0.attention.wq.weight", "[12]", "12 rows");
}

// ---------------------------------------------------------------------------------------- loading

class HfLoading : public ::testing::Test {
 protected:
  void SetUp() override {
    const SafetensorsFolder folder(golden("models/llama_tied").string());
    for (const std::string& name : folder.names()) tensors_[name] = folder.get(name);
    model_ = materialised(read_hf_llama3_config(golden("models/llama_tied").string()), "eager",
                          at::kFloat);
    const c10::AutoGradMode no_grad(false);
    for (const ParameterSlot& slot : model_->parameters()) slot.tensor->fill_(7.0);
  }
  void load() {
    write_safetensors((dir_.path() / "model.safetensors").string(),
                      NamedTensors(tensors_.begin(), tensors_.end()));
    load_hf_llama3(*model_, dir_.path().string());
  }
  void expect_error(std::initializer_list<std::string> parts) {
    testing::expect_error([&] { load(); }, parts, __FILE__, __LINE__);
    for (const ParameterSlot& slot : model_->parameters()) {
      EXPECT_TRUE(slot.tensor->eq(7.0).all().item<bool>()) << slot.name;
    }
  }

  TempDir dir_;
  std::map<std::string, Tensor> tensors_;
  std::unique_ptr<Llama3> model_;
};

TEST_F(HfLoading, CastsToTheParametersDtypeAndKeepsThemLeaves) {
  load();
  for (const ParameterSlot& slot : model_->parameters()) {
    EXPECT_EQ(slot.tensor->scalar_type(), at::kFloat);
    EXPECT_TRUE(slot.tensor->is_leaf() && slot.tensor->requires_grad());
    const Tensor theirs = to_hf_llama3_layout(model_->config(), slot.name, *slot.tensor);
    EXPECT_TRUE(theirs.equal(tensors_.at(hf_llama3_name(slot.name)).to(at::kFloat))) << slot.name;
  }
}

TEST_F(HfLoading, FillsNamedTensorsToo) {
  load();
  NamedTensors masters;
  for (const ParameterSlot& slot : model_->parameters()) {
    masters.emplace_back(slot.name, at::empty(slot.tensor->sizes(), at::kDouble));
  }
  load_hf_llama3(model_->config(), masters, dir_.path().string());
  for (size_t i = 0; i < masters.size(); ++i) {
    EXPECT_TRUE(masters[i].second.to(at::kFloat).equal(*model_->parameters()[i].tensor));
  }
}

// Cut unevenly in both dimensions, also through the heads whose rows the import permutes.
TEST_F(HfLoading, EachRankReadsItsRectangle) {
  load();
  std::vector<NamedShard> parts;
  for (const ParameterSlot& slot : model_->parameters()) {
    const at::IntArrayRef shape = slot.tensor->sizes();
    const int64_t row = shape[0] / 3, column = shape.size() > 1 ? shape[1] / 2 : 0;
    const std::vector<int64_t> first_rows = {0, row, shape[0], shape[0]};
    for (size_t i = 0; i + 1 < first_rows.size(); ++i) {
      NamedShard part = whole_shard(slot.name, slot.tensor->detach());
      part.where.offset[0] = first_rows[i];
      part.tensor = part.tensor.narrow(0, first_rows[i], first_rows[i + 1] - first_rows[i]);
      if (shape.size() > 1) {
        part.where.offset[1] = column;
        part.tensor = part.tensor.narrow(1, column, shape[1] - column);
      }
      part.tensor = at::full_like(part.tensor, 7.0, at::kDouble);
      part.where.shape = part.tensor.sizes().vec();
      parts.push_back(part);
    }
  }
  load_hf_llama3(model_->config(), parts, dir_.path().string());
  for (const ParameterSlot& slot : model_->parameters()) {
    for (const NamedShard& part : parts) {
      if (part.name != slot.name) continue;
      const Rectangle all = Rectangle::whole(slot.tensor->sizes().vec());
      EXPECT_TRUE(part.tensor.to(at::kFloat).equal(view_of(*slot.tensor, all, part.where)))
          << part.name;
    }
  }
  // A pipeline stage lacks names; that is no mismatch.
  parts.resize(2);
  load_hf_llama3(model_->config(), parts, dir_.path().string());
}

TEST_F(HfLoading, NamesAllTensorsThatDoNotFit) {
  tensors_.erase("model.norm.weight");
  tensors_["model.layers.2.mlp.up_proj.weight"] = at::zeros({64, 32});
  tensors_["model.embed_tokens.weight"] = at::zeros({191, 32});
  tensors_["model.layers.0.input_layernorm.weight"] = at::zeros({32}, at::kInt);
  expect_error({dir_.path().string(), "missing (1): model.norm.weight",
                "unexpected (1): model.layers.2.mlp.up_proj.weight",
                "model.embed_tokens.weight (got [191, 32], expected [192, 32])",
                "model.layers.0.input_layernorm.weight (got Int"});
}

TEST_F(HfLoading, AcceptsTensorsThatFollowFromOthers) {
  tensors_["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::zeros({4});
  tensors_["lm_head.weight"] = tensors_["model.embed_tokens.weight"];
  load();
  EXPECT_FALSE(model_->head_weight().eq(7.0).any().item<bool>());
}

TEST_F(HfLoading, RefusesATiedHeadThatDiffers) {
  tensors_["lm_head.weight"] = tensors_["model.embed_tokens.weight"] + 1;
  expect_error({"lm_head.weight differs from model.embed_tokens.weight"});
}

TEST_F(HfLoading, RefusesAnUntiedModelWithoutAHead) {
  Llama3Config config = model_->config();
  config.tied_embeddings = false;
  model_ = materialised(config, "eager", at::kFloat);
  EXPECT_ERROR(load(), "missing (1): lm_head.weight");
}

TEST_F(HfLoading, RefusesAModelWithoutStorage) {
  Llama3 model(model_->config(), AttentionRegistry::with_builtins().make("eager"));
  EXPECT_ERROR(load_hf_llama3(model, golden("models/llama_tied").string()), "tok_embeddings.weight",
               "meta", "materialise");
}

TEST_F(HfLoading, ReportsAShardThatIsNotThere) {
  const TempDir shards;
  make_folder(shards, "llama", "{}");
  fs::remove(shards.path() / "model-00002-of-00003.safetensors");
  EXPECT_ERROR(load_hf_llama3(*model_, shards.path().string()), "model-00002-of-00003.safetensors",
               "No such file or directory");
}

}  // namespace
}  // namespace tessera
