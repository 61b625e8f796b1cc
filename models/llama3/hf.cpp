#include "models/llama3/hf.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <system_error>

#include "data/files/rectangle.h"
#include "data/files/safetensors.h"
#include "models/hf/tensor_mismatches.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// ----------------------------------------------------------------------------------- config.json

// An object of config.json whose values are read with checks; null counts as absent, as in
// transformers.
class HfObject {
 public:
  HfObject(std::string where, Json object) : where_(std::move(where)), object_(std::move(object)) {
    TORCH_CHECK(object_.is_object(), where_, ": got ", object_.dump(), ", expected an object");
  }

  bool has(const std::string& key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
  }

  HfObject object(const std::string& key) const {
    return has(key) ? HfObject(where_ + ": " + key, object_[key])
                    : HfObject(where_, Json::object());
  }

  int64_t size(const std::string& key, std::optional<int64_t> absent = std::nullopt) const {
    if (!has(key) && absent.has_value()) return *absent;
    const Json value = present(key);
    const bool fits = value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX &&
                      value.get<uint64_t>() >= 1;
    TORCH_CHECK(fits, where_, ": ", key, ": got ", value.dump(), ", expected an integer >= 1");
    return value.get<int64_t>();
  }

  double positive(const std::string& key, std::optional<double> absent = std::nullopt) const {
    if (!has(key) && absent.has_value()) return *absent;
    const Json value = present(key);
    TORCH_CHECK(value.is_number() && value.get<double>() > 0, where_, ": ", key, ": got ",
                value.dump(), ", expected a number > 0");
    return value.get<double>();
  }

  bool boolean(const std::string& key, bool absent) const {
    if (!has(key)) return absent;
    const Json value = object_[key];
    TORCH_CHECK(value.is_boolean(), where_, ": ", key, ": got ", value.dump(),
                ", expected true or false");
    return value.get<bool>();
  }

  std::string string(const std::string& key, const std::string& absent) const {
    if (!has(key)) return absent;
    const Json value = object_[key];
    TORCH_CHECK(value.is_string(), where_, ": ", key, ": got ", value.dump(),
                ", expected a string");
    return value.get<std::string>();
  }

  // The one value that this model can express, which is also what an absent key means.
  void require(const std::string& key, const Json& only) const {
    TORCH_CHECK(!has(key) || object_[key] == only, where_, ": ", key, ": got ", object_[key].dump(),
                ", but Llama 3 is supported with ", only.dump(), " only");
  }

  const std::string& where() const { return where_; }

 private:
  Json present(const std::string& key) const {
    TORCH_CHECK(has(key), where_, ": ", key, " is missing");
    return object_[key];
  }

  std::string where_;
  Json object_;
};

HfObject read_config(const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  std::ifstream stream(path);
  TORCH_CHECK(stream, "cannot open ", path, ": ", std::generic_category().message(errno));
  try {
    return HfObject(path, Json::parse(stream));
  } catch (const Json::exception& error) {
    C10_THROW_ERROR(Error, c10::str(path, ": not valid JSON: ", error.what()));
  }
}

void refuse_what_llama3_lacks(const HfObject& config) {
  TORCH_CHECK(config.string("model_type", "(none)") == "llama", config.where(),
              ": model_type: got \"", config.string("model_type", "(none)"),
              "\", expected \"llama\"");
  config.require("hidden_act", "silu");
  config.require("attention_bias", false);
  config.require("mlp_bias", false);
  config.require("attention_dropout", 0);
  config.require("quantization_config", nullptr);
}

// transformers 5 has everything in rope_parameters. Older files have rope_theta beside
// rope_scaling, and the oldest name its rope_type `type`.
void read_rope(const HfObject& config, Llama3Config& result) {
  TORCH_CHECK(!config.has("rope_parameters") || !config.has("rope_scaling"), config.where(),
              ": got both rope_parameters and rope_scaling, expected one of them");
  const HfObject rope =
      config.object(config.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  const HfObject& theta_holder = rope.has("rope_theta") ? rope : config;
  result.rope_theta = theta_holder.positive("rope_theta", 10000.0);
  rope.require("partial_rotary_factor", 1.0);
  config.require("partial_rotary_factor", 1.0);
  const std::string type = rope.string("rope_type", rope.string("type", "default"));
  if (type == "default") {
    result.rope_scaling.reset();
    return;
  }
  TORCH_CHECK(type == "llama3", rope.where(), ": rope_type: got \"", type,
              "\", expected \"default\" or \"llama3\"");
  result.rope_scaling = RopeScaling{
      .factor = rope.positive("factor"),
      .low_freq_factor = rope.positive("low_freq_factor"),
      .high_freq_factor = rope.positive("high_freq_factor"),
      .original_max_position_embeddings = rope.size("original_max_position_embeddings")};
}

// ------------------------------------------------------------------------------ names and layout

struct NamePair {
  const char* ours;
  const char* theirs;
};

constexpr std::array kModelNames = {
    NamePair{"tok_embeddings.weight", "model.embed_tokens.weight"},
    NamePair{"norm.weight", "model.norm.weight"},
    NamePair{"output.weight", "lm_head.weight"},
};

// Names after "layers.N." (ours) and "model.layers.N." (theirs).
constexpr std::array kLayerNames = {
    NamePair{"attention.wq.weight", "self_attn.q_proj.weight"},
    NamePair{"attention.wk.weight", "self_attn.k_proj.weight"},
    NamePair{"attention.wv.weight", "self_attn.v_proj.weight"},
    NamePair{"attention.wo.weight", "self_attn.o_proj.weight"},
    NamePair{"feed_forward.w1.weight", "mlp.gate_proj.weight"},
    NamePair{"feed_forward.w2.weight", "mlp.down_proj.weight"},
    NamePair{"feed_forward.w3.weight", "mlp.up_proj.weight"},
    NamePair{"attention_norm.weight", "input_layernorm.weight"},
    NamePair{"ffn_norm.weight", "post_attention_layernorm.weight"},
};

constexpr std::string_view kLayers = "layers.";
constexpr const char* kHfHead = "lm_head.weight";
constexpr const char* kHfEmbedding = "model.embed_tokens.weight";

// Length of "layers.12."; npos when the name is not of a layer.
size_t end_of_layer_prefix(const std::string& name) {
  if (!name.starts_with(kLayers)) return std::string::npos;
  size_t end = kLayers.size();
  while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end])) != 0) ++end;
  const bool has_number = end > kLayers.size() && end < name.size() && name[end] == '.';
  return has_number ? end + 1 : std::string::npos;
}

// Heads whose rows RoPE rotates; 0 for tensors that have one layout in both worlds.
int64_t num_rotated_heads(const Llama3Config& config, const std::string& name) {
  if (name.ends_with("attention.wq.weight")) return config.n_heads;
  if (name.ends_with("attention.wk.weight")) return config.n_kv_heads;
  return 0;
}

void check_rotated_rows(const Llama3Config& config, int64_t num_heads, const std::string& name,
                        const at::Tensor& tensor) {
  const int64_t num_rows = num_heads * config.head_dim;
  TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == num_rows, name, ": got shape ", tensor.sizes(),
              ", expected ", num_rows, " rows (", num_heads, " heads of ", config.head_dim, ")");
}

// ---------------------------------------------------------------------------------------- loading

std::string shape_text(at::IntArrayRef sizes) {
  std::ostringstream text;
  text << sizes;
  return text.str();
}

// Tensors that folders hold besides the parameters: RoPE's frequencies, a buffer that old files
// saved, and the copy of a tied head.
bool is_derived(const SafetensorsFolder& files, const std::string& name, bool tied) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (!tied || name != kHfHead || !files.contains(kHfEmbedding)) return false;
  TORCH_CHECK(files.get(kHfHead).equal(files.get(kHfEmbedding)), files.file_of(kHfHead).path(),
              ": ", kHfHead, " differs from ", kHfEmbedding,
              ", but config.json says that the model ties them");
  return true;
}

// Hugging Face's names of all parameters that the model has, on whichever rank they lie.
std::set<std::string> hf_names(const Llama3Config& config) {
  std::set<std::string> names;
  for (const NamePair& pair : kModelNames) names.insert(pair.theirs);
  if (config.tied_embeddings) names.erase(kHfHead);
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const NamePair& pair : kLayerNames) names.insert(prefix + pair.theirs);
  }
  return names;
}

void check_same_tensors(const Llama3Config& config, const std::vector<NamedShard>& parts,
                        const SafetensorsFolder& files, const std::string& folder) {
  TensorMismatches mismatches;
  for (const NamedShard& part : parts) {
    TORCH_CHECK(!part.tensor.is_meta(), "parameter ", part.name,
                " is on the meta device: materialise the model before loading ", folder);
    const std::string name = hf_llama3_name(part.name);
    if (!files.contains(name)) {
      mismatches.add_missing(name);
      continue;
    }
    const SafetensorsFile& file = files.file_of(name);
    if (part.whole_shape != file.sizes(name)) {
      mismatches.add_different(name, shape_text(file.sizes(name)), shape_text(part.whole_shape));
    } else if (!at::isFloatingType(file.dtype(name))) {
      mismatches.add_different(name, at::toString(file.dtype(name)), "a floating-point dtype");
    }
  }
  const std::set<std::string> expected = hf_names(config);
  for (const std::string& name : files.names()) {
    if (!expected.contains(name) && !is_derived(files, name, config.tied_embeddings)) {
      mismatches.add_unexpected(name);
    }
  }
  mismatches.check(folder);
}

// Reads this rank's part of a parameter, in Tessera's layout.
at::Tensor read_part(const Llama3Config& config, const NamedShard& part,
                     const SafetensorsFolder& files) {
  const std::string name = hf_llama3_name(part.name);
  const SafetensorsFile& file = files.file_of(name);
  if (num_rotated_heads(config, part.name) == 0) return file.get(name, part.where);
  const at::Tensor whole = from_hf_llama3_layout(config, part.name, file.get(name));
  return view_of(whole, Rectangle::whole(whole.sizes().vec()), part.where);
}

}  // namespace

Llama3Config read_hf_llama3_config(const std::string& folder) {
  const HfObject config = read_config(folder);
  refuse_what_llama3_lacks(config);
  Llama3Config result;
  result.flavor = fs::path(folder).lexically_normal().filename().string();
  result.dim = config.size("hidden_size");
  result.n_layers = config.size("num_hidden_layers");
  result.n_heads = config.size("num_attention_heads");
  result.n_kv_heads = config.size("num_key_value_heads", result.n_heads);
  result.head_dim = config.size("head_dim", result.dim / result.n_heads);
  result.ffn_dim = config.size("intermediate_size");
  result.vocab_size = config.size("vocab_size");
  result.norm_eps = config.positive("rms_norm_eps", 1e-6);
  result.tied_embeddings = config.boolean("tie_word_embeddings", false);
  result.max_seq_len = config.size("max_position_embeddings", 2048);
  read_rope(config, result);
  try {
    result.check();
  } catch (const c10::Error& error) {
    TORCH_CHECK(false, config.where(), ": ", error.what_without_backtrace());
  }
  return result;
}

std::string hf_llama3_name(const std::string& name) {
  const size_t prefix_end = end_of_layer_prefix(name);
  if (prefix_end == std::string::npos) {
    for (const NamePair& pair : kModelNames) {
      if (name == pair.ours) return pair.theirs;
    }
  } else {
    for (const NamePair& pair : kLayerNames) {
      if (name.substr(prefix_end) == pair.ours) {
        return "model." + name.substr(0, prefix_end) + pair.theirs;
      }
    }
  }
  C10_THROW_ERROR(Error, c10::str("Llama 3 has no parameter \"", name, "\""));
}

// RoPE turns D/2 pairs of a head's rows, pair p by the angle position * theta^(-2p/D). Which rows
// make pair p is a convention: rows 2p and 2p + 1 here (as in TorchTitan and Meta's files), rows p
// and p + D/2 in Hugging Face (rotate_half). A permutation of rows, the same in q and k, changes no
// score, as q.k sums over them. With j = 0, 1 for the two rows of a pair,
//
//   ours[head, p, j] = theirs[head, j, p]
//
//   row in ours     head * D + 2p + j
//   row in theirs   head * D + j * D/2 + p
at::Tensor from_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                                 const at::Tensor& tensor) {
  const int64_t num_heads = num_rotated_heads(config, name);
  if (num_heads == 0) return tensor;
  check_rotated_rows(config, num_heads, name, tensor);
  return tensor.reshape({num_heads, 2, config.head_dim / 2, tensor.size(1)})
      .transpose(1, 2)
      .reshape(tensor.sizes());
}

at::Tensor to_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                               const at::Tensor& tensor) {
  const int64_t num_heads = num_rotated_heads(config, name);
  if (num_heads == 0) return tensor;
  check_rotated_rows(config, num_heads, name, tensor);
  return tensor.reshape({num_heads, config.head_dim / 2, 2, tensor.size(1)})
      .transpose(1, 2)
      .reshape(tensor.sizes());
}

void load_hf_llama3(const Llama3Config& config, const std::vector<NamedShard>& parts,
                    const std::string& folder) {
  const SafetensorsFolder files(folder);
  check_same_tensors(config, parts, files, folder);
  const c10::AutoGradMode no_grad(false);
  for (const NamedShard& part : parts) {
    if (part.tensor.numel() > 0) part.tensor.copy_(read_part(config, part, files));
  }
}

void load_hf_llama3(const Llama3Config& config, const NamedTensors& parameters,
                    const std::string& folder) {
  std::vector<NamedShard> parts;
  for (const auto& [name, tensor] : parameters) parts.push_back(whole_shard(name, tensor));
  load_hf_llama3(config, parts, folder);
}

void load_hf_llama3(Llama3& model, const std::string& folder) {
  NamedTensors parameters;
  for (const ParameterSlot& slot : model.parameters()) {
    parameters.emplace_back(slot.name, *slot.tensor);
  }
  load_hf_llama3(model.config(), parameters, folder);
}

}  // namespace tessera
