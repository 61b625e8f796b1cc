#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <string_view>

#include "attention/registry/mask_parser.h"
#include "models/llama3/llama3.h"
#include "models/registry.h"

namespace tessera {
namespace {

// Sizes from torchtitan/models/llama3/__init__.py; 1B and 3B from the hub's
// meta-llama/Llama-3.2-{1B,3B}.
struct Flavor {
  const char* name;
  int64_t dim, n_layers, n_heads, n_kv_heads, ffn_dim, vocab_size;
  double rope_factor;
  bool tied_embeddings;
};

const std::vector<Flavor>& flavors() {
  static const std::vector<Flavor> all = {
      {"debugmodel", 256, 6, 16, 16, llama3_ffn_dim(256, 1.0, 256), 2048, 8.0, false},
      {"1B", 2048, 16, 32, 8, llama3_ffn_dim(2048, 1.5, 1024), 128256, 32.0, true},
      {"3B", 3072, 28, 24, 8, llama3_ffn_dim(3072, 1.0, 1024), 128256, 32.0, true},
      {"8B", 4096, 32, 32, 8, llama3_ffn_dim(4096, 1.3, 1024), 128256, 8.0, false},
      {"70B", 8192, 80, 64, 8, llama3_ffn_dim(8192, 1.3, 4096), 128256, 8.0, false},
      {"405B", 16384, 126, 128, 8, llama3_ffn_dim(16384, 1.2, 4096), 128256, 8.0, false},
  };
  return all;
}

// "8B_flex_attn" -> "8B": the suffix is TorchTitan's for the block-causal variants of its flavors.
std::string without_flex_suffix(const std::string& name) {
  for (const std::string_view suffix : {"_flex_attn", "_flex"}) {
    if (name.size() > suffix.size() && name.ends_with(suffix)) {
      return name.substr(0, name.size() - suffix.size());
    }
  }
  return name;
}

void check_positive(const char* field, int64_t value) {
  TORCH_CHECK(value > 0, "llama3 config: ", field, " is ", value, ", expected > 0");
}

void check_rope(const Llama3Config& config) {
  TORCH_CHECK(config.head_dim % 2 == 0, "llama3 config: head_dim is ", config.head_dim,
              ", expected an even number for rotary position embedding");
  TORCH_CHECK(config.rope_theta > 0, "llama3 config: rope_theta is ", config.rope_theta,
              ", expected > 0");
  if (!config.rope_scaling) return;
  const RopeScaling& scaling = *config.rope_scaling;
  TORCH_CHECK(scaling.factor >= 1, "llama3 config: rope_scaling.factor is ", scaling.factor,
              ", expected >= 1");
  TORCH_CHECK(scaling.low_freq_factor > 0 && scaling.low_freq_factor < scaling.high_freq_factor,
              "llama3 config: rope_scaling.low_freq_factor is ", scaling.low_freq_factor,
              " and high_freq_factor is ", scaling.high_freq_factor, ", expected 0 < low < high");
  check_positive("rope_scaling.original_max_position_embeddings",
                 scaling.original_max_position_embeddings);
}

}  // namespace

int64_t llama3_ffn_dim(int64_t dim, double multiplier, int64_t multiple_of) {
  const auto hidden = static_cast<int64_t>(multiplier * static_cast<double>(2 * (4 * dim) / 3));
  return (hidden + multiple_of - 1) / multiple_of * multiple_of;
}

std::vector<std::string> llama3_flavors() {
  std::vector<std::string> names;
  for (const Flavor& flavor : flavors()) names.emplace_back(flavor.name);
  return names;
}

Llama3Config llama3_flavor(const std::string& name) {
  const std::string base = without_flex_suffix(name);
  for (const Flavor& flavor : flavors()) {
    if (base != flavor.name) continue;
    return {.flavor = name,
            .dim = flavor.dim,
            .n_layers = flavor.n_layers,
            .n_heads = flavor.n_heads,
            .n_kv_heads = flavor.n_kv_heads,
            .head_dim = flavor.dim / flavor.n_heads,
            .ffn_dim = flavor.ffn_dim,
            .vocab_size = flavor.vocab_size,
            .rope_scaling = RopeScaling{.factor = flavor.rope_factor},
            .tied_embeddings = flavor.tied_embeddings};
  }
  C10_THROW_ERROR(Error, c10::str("model.flavor of llama3 is '", name,
                                  "', expected one of: ", c10::Join(", ", llama3_flavors()),
                                  " (each also as <flavor>_flex_attn)"));
}

int64_t Llama3Config::num_parameters() const {
  const int64_t attention = 2 * dim * head_dim * (n_heads + n_kv_heads);
  const int64_t feed_forward = 3 * dim * ffn_dim;
  const int64_t embeddings = vocab_size * dim * (tied_embeddings ? 1 : 2);
  return embeddings + n_layers * (attention + feed_forward + 2 * dim) + dim;
}

void Llama3Config::check() const {
  check_positive("dim", dim);
  check_positive("n_layers", n_layers);
  check_positive("n_heads", n_heads);
  check_positive("n_kv_heads", n_kv_heads);
  check_positive("head_dim", head_dim);
  check_positive("ffn_dim", ffn_dim);
  check_positive("vocab_size", vocab_size);
  check_positive("max_seq_len", max_seq_len);
  TORCH_CHECK(n_heads % n_kv_heads == 0, "llama3 config: n_heads is ", n_heads,
              ", expected a multiple of n_kv_heads, which is ", n_kv_heads);
  TORCH_CHECK(norm_eps > 0, "llama3 config: norm_eps is ", norm_eps, ", expected > 0");
  check_rope(*this);
  check_mask_syntax(mask_rule, mask_registry);
}

std::unique_ptr<Model> make_llama3(const ModelRequest& request, const AttentionRegistry& attention,
                                   const ModelPlacement& placement) {
  Llama3Config config = llama3_flavor(request.flavor);
  const bool flex_name = without_flex_suffix(request.flavor) != request.flavor;
  TORCH_CHECK(!flex_name || request.attn_mask_type == "block_causal", "model.flavor is '",
              request.flavor, "', TorchTitan's name for block-causal masks, but ",
              "model.attn_mask_type is '", request.attn_mask_type,
              "'; expected block_causal, or the flavor without its suffix");
  config.mask_rule = requested_mask_rule(request);
  config.mask_registry = request.mask_registry;
  config.max_seq_len = request.max_seq_len;
  const auto ops = attention.make_kinds(request.attention, {"global"});
  return std::make_unique<Llama3>(config, ops.at("global"), placement);
}

}  // namespace tessera
