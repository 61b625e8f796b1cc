// Llama 3: pre-norm transformer with grouped-query attention, RoPE and SwiGLU, as TorchTitan lays
// it out.
//
// The internal layout is TorchTitan's: RoPE rotates adjacent pairs (2i, 2i + 1) of a head. Hugging
// Face rotates halves (i, i + D/2), so weights from there have the rows of wq and wk permuted on
// import (models/llama3/hf.h).
//
// Parameters have TorchTitan's names and these shapes (whole; D dim, F ffn_dim, V vocab_size, A and
// K the widths n_heads * head_dim and n_kv_heads * head_dim):
//
//   tok_embeddings.weight               [V, D]
//   layers.N.attention.wq.weight        [A, D]
//   layers.N.attention.{wk,wv}.weight   [K, D]
//   layers.N.attention.wo.weight        [D, A]
//   layers.N.feed_forward.{w1,w3}.weight        [F, D]
//   layers.N.feed_forward.w2.weight             [D, F]
//   layers.N.{attention_norm,ffn_norm}.weight   [D]
//   norm.weight                         [D]
//   output.weight                       [V, D], absent when tied
//
//   Llama3 model(llama3_flavor("8B"), AttentionRegistry::with_builtins().make("sdpa"));
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/op/attention.h"
#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"
#include "models/layers/rope.h"
#include "models/model.h"
#include "models/placement.h"

namespace tessera {

// The defaults are those of the flavor "debugmodel".
struct Llama3Config {
  std::string flavor = "debugmodel";
  int64_t dim = 256;
  int64_t n_layers = 6;
  int64_t n_heads = 16;
  int64_t n_kv_heads = 16;
  int64_t head_dim = 16;
  int64_t ffn_dim = 768;
  int64_t vocab_size = 2048;
  double norm_eps = 1e-5;
  double rope_theta = 500000.0;
  std::optional<RopeScaling> rope_scaling = RopeScaling{};
  bool tied_embeddings = false;
  int64_t max_seq_len = 131072;  // a forward refuses longer rows

  // wo, w2 and w3 of layer l start with std 0.02 / sqrt(2 (l + 1)); when false, all layers start
  // with std 0.02 / sqrt(2 n_layers).
  bool depth_init = true;

  // Rule of the layers' masks, a string that attention/registry/mask_parser.h understands; document
  // boundaries come from the batch.
  std::string mask_rule = "causal & document";
  MaskRegistry mask_registry = MaskRegistry::with_builtins();  // what its names mean

  // Elements of all parameters, by arithmetic; equals Model::num_parameters() of the whole model.
  int64_t num_parameters() const;

  // Throws c10::Error naming the field, its value and what is expected.
  void check() const;
};

// TorchTitan's FFN width: int(multiplier * int(8 dim / 3)) rounded up to a multiple of multiple_of.
int64_t llama3_ffn_dim(int64_t dim, double multiplier, int64_t multiple_of);

// The configuration of a flavor: debugmodel, 1B, 3B, 8B, 70B, 405B; each also as <flavor>_flex_attn
// or <flavor>_flex, TorchTitan's names for the block-causal variant. Throws c10::Error that lists
// the flavors for an unknown one. 1B and 3B are Llama 3.2's: tied embeddings and a RoPE factor of
// 32, as in their config.json on the hub (TorchTitan after v0.2 leaves the factor at Llama 3.1's
// 8). llama3_flavors() has the names without suffixes.
Llama3Config llama3_flavor(const std::string& flavor);
std::vector<std::string> llama3_flavors();

struct ModelRequest;  // models/registry.h

// The family's line in models/registry.cpp. Throws c10::Error naming the field, also for a flavor
// with TorchTitan's block-causal suffix and another attn_mask_type than block_causal.
std::unique_ptr<Model> make_llama3(const ModelRequest& request, const AttentionRegistry& attention,
                                   const ModelPlacement& placement);

class Llama3 final : public Model {
 public:
  // Builds the model on the meta device; every layer owns a copy of `attention` as its
  // inner_attention. Tensor parallelism cuts wq, wk, wv, w1, w3 by rows and wo, w2 by columns;
  // embedding and head by rows of the vocabulary, unevenly where it does not divide. A pipeline
  // stage builds only its own modules. Throws c10::Error when the configuration does not pass
  // check(), when heads, key/value heads or ffn_dim do not divide by the tensor ranks, when there
  // are fewer vocabulary rows than tensor ranks, and for a stage without modules or with layers
  // that do not exist.
  Llama3(const Llama3Config& config, const AttentionOp& attention,
         const ModelPlacement& placement = {});
  ~Llama3() override;

  // {"global": config.mask_rule}, built by one call of create_mask_fn.
  AttentionMasks get_attention_masks(const CreateMaskFn& create_mask_fn, const Batch& batch,
                                     const Tokenizer& tokenizer,
                                     const Extras& extras) const override;
  std::vector<int64_t> hidden_shape(int64_t num_rows, int64_t num_tokens) const override;
  at::Tensor trunk(const at::Tensor& input, const AttentionMasks& masks,
                   const ForwardInputs& inputs) override;
  at::Tensor head(const at::Tensor& hidden_BTD) override;
  at::Tensor with_head(const at::Tensor& hidden_BTD, const HeadFn& function) override;
  at::Tensor head_weight() const override;
  int64_t vocab_size() const override { return config_.vocab_size; }
  std::vector<Block*> blocks() override;
  std::vector<AttentionSite> attention_sites() override;

  // Blocks in the order in which a forward runs their segments: a tied embedding comes twice, and a
  // stage's head may run as a block of another stage (ModelPlacement::tied_embedding).
  std::vector<Block*> segment_blocks();
  int64_t num_flops_per_token(int64_t seq_len) const override;
  std::string description() const override;

  const Llama3Config& config() const { return config_; }

 private:
  struct Modules;
  Llama3Config config_;
  std::unique_ptr<Modules> modules_;
};

}  // namespace tessera
