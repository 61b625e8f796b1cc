// Shape legend: B rows, T tokens, D model dim, H query heads, K key/value heads, E head dim,
// F ffn dim, V vocabulary.
#include "models/llama3/llama3.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <deque>

#include "attention/registry/mask_parser.h"
#include "models/layers/layers.h"

namespace tessera {
namespace {

using at::Tensor;

constexpr const char* kGlobalMask = "global";

// A parameter on the meta device, or this rank's part of it, listed in its block.
void declare(Block& block, Tensor& member, const std::string& name, const OwnShape& own,
             const InitSpec& init) {
  member = at::empty(own.shape, at::TensorOptions().device(at::kMeta).dtype(at::kFloat));
  block.slots.push_back({name, &member, init, own.cut});
}

OwnShape whole(const std::vector<int64_t>& shape) { return {shape}; }

// Dimensions of a weight [out, in] along which tensor parallelism cuts.
constexpr int64_t kByRows = 0, kByColumns = 1;

// TorchTitan cuts these at +-2, which is a hundred standard deviations: not truncated in effect.
InitSpec linear_init(double std) { return InitSpec::truncated_normal(std, -2.0, 2.0); }

InitSpec head_init(int64_t dim) {
  const double std = 1.0 / std::sqrt(static_cast<double>(dim));
  return InitSpec::truncated_normal(std, -3 * std, 3 * std);
}

struct Attention {
  Attention(const Llama3Config& config, const AttentionOp& op, const ModelPlacement& placement,
            Block& block, double output_std)
      : head_dim(config.head_dim),
        inner_attention(op),
        weight_gradients(placement.weight_gradients) {
    const TensorParallel& tp = placement.tensor;
    const int64_t q_dim = config.n_heads * head_dim, kv_dim = config.n_kv_heads * head_dim;
    const std::string prefix = block.name + ".attention.";
    declare(block, wq, prefix + "wq.weight", tp.cut({q_dim, config.dim}, kByRows),
            linear_init(0.02));
    declare(block, wk, prefix + "wk.weight", tp.cut({kv_dim, config.dim}, kByRows),
            linear_init(0.02));
    declare(block, wv, prefix + "wv.weight", tp.cut({kv_dim, config.dim}, kByRows),
            linear_init(0.02));
    declare(block, wo, prefix + "wo.weight", tp.cut({config.dim, q_dim}, kByColumns),
            linear_init(output_std));
  }

  Tensor forward(const Tensor& x_BTD, const BlockMask& mask, const RopeTable& rope,
                 const AttentionArgs& args) const {
    const Tensor q_BTHE = project(x_BTD, wq, weight_gradients).unflatten(-1, {-1, head_dim});
    const Tensor k_BTKE = project(x_BTD, wk, weight_gradients).unflatten(-1, {-1, head_dim});
    const Tensor v_BTKE = project(x_BTD, wv, weight_gradients).unflatten(-1, {-1, head_dim});
    const AttentionOutput attended = inner_attention(
        apply_rope(q_BTHE, rope), apply_rope(k_BTKE, rope), v_BTKE, mask, {.args = args});
    return project(attended.out_BTHE.flatten(-2), wo, weight_gradients);
  }

  int64_t head_dim;
  Tensor wq, wk, wv, wo;
  AttentionOp inner_attention;
  pipeline::WeightGradients* weight_gradients;
};

struct FeedForward {
  FeedForward(const Llama3Config& config, const ModelPlacement& placement, Block& block,
              double output_std)
      : weight_gradients(placement.weight_gradients) {
    const TensorParallel& tp = placement.tensor;
    const std::string prefix = block.name + ".feed_forward.";
    const std::vector<int64_t> up = {config.ffn_dim, config.dim},
                               down = {config.dim, config.ffn_dim};
    declare(block, w1, prefix + "w1.weight", tp.cut(up, kByRows), linear_init(0.02));
    declare(block, w2, prefix + "w2.weight", tp.cut(down, kByColumns), linear_init(output_std));
    declare(block, w3, prefix + "w3.weight", tp.cut(up, kByRows), linear_init(output_std));
  }

  Tensor forward(const Tensor& x_BTD) const { return swiglu(x_BTD, w1, w2, w3, weight_gradients); }

  Tensor w1, w2, w3;
  pipeline::WeightGradients* weight_gradients;
};

double layer_output_std(const Llama3Config& config, int64_t layer) {
  const int64_t depth = config.depth_init ? layer + 1 : config.n_layers;
  return 0.02 / std::sqrt(2.0 * static_cast<double>(depth));
}

struct Layer {
  Layer(const Llama3Config& config, const AttentionOp& op, const ModelPlacement& placement,
        int64_t index)
      : block{.name = "layers." + std::to_string(index)},
        eps(config.norm_eps),
        tp(placement.tensor),
        attention(config, op, placement, block, layer_output_std(config, index)),
        feed_forward(config, placement, block, layer_output_std(config, index)) {
    const InitSpec ones = InitSpec::constant(1.0);
    declare(block, attention_norm, block.name + ".attention_norm.weight", whole({config.dim}),
            ones);
    declare(block, ffn_norm, block.name + ".ffn_norm.weight", whole({config.dim}), ones);
  }
  Layer(const Layer&) = delete;

  Tensor forward(const Tensor& x_BTD, const BlockMask& mask, const RopeTable& rope,
                 const AttentionArgs& args) const {
    const Tensor normal_BTD = tp.enter(rms_normalize(x_BTD, attention_norm, eps));
    const Tensor h_BTD = x_BTD + tp.leave(attention.forward(normal_BTD, mask, rope, args));
    return h_BTD + tp.leave(feed_forward.forward(tp.enter(rms_normalize(h_BTD, ffn_norm, eps))));
  }

  Block block;
  double eps;
  TensorParallel tp;
  Attention attention;
  FeedForward feed_forward;
  Tensor attention_norm, ffn_norm;
};

// Looks at tokens on the CPU only: on another device a look at the values would wait for the
// device, whose embedding kernel asserts the range.
void check_token_range(const Tensor& tokens_BT, int64_t vocab_size) {
  if (!tokens_BT.is_cpu() || tokens_BT.numel() == 0) return;
  const auto [low, high] = at::aminmax(tokens_BT);
  TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < vocab_size, "tokens range from ",
              low.item<int64_t>(), " to ", high.item<int64_t>(), ", expected 0 to ", vocab_size - 1,
              " (vocab_size ", vocab_size, ")");
}

void check_tokens(const Llama3Config& config, const Tensor& tokens_BT, const Tensor& positions_BT) {
  TORCH_CHECK(tokens_BT.defined() && tokens_BT.dim() == 2 && tokens_BT.scalar_type() == at::kLong,
              "tokens are ", tokens_BT.toString(), " ",
              tokens_BT.defined() ? tokens_BT.sizes() : at::IntArrayRef(),
              ", expected Long [B, T]");
  TORCH_CHECK(tokens_BT.size(1) <= config.max_seq_len, "tokens have ", tokens_BT.size(1),
              " per row, expected at most max_seq_len, which is ", config.max_seq_len);
  TORCH_CHECK(positions_BT.defined(),
              "inputs.positions_BT is undefined, expected the batch's positions [B, T]");
  TORCH_CHECK(positions_BT.sizes() == tokens_BT.sizes() && positions_BT.scalar_type() == at::kLong,
              "inputs.positions_BT is ", positions_BT.toString(), " ", positions_BT.sizes(),
              ", expected Long ", tokens_BT.sizes(), " as the tokens");
  check_token_range(tokens_BT, config.vocab_size);
}

// Checks the hidden states that a stage without the embedding takes from the stage before.
void check_hidden_states(const Tensor& hidden_BTD, const Tensor& positions_BT,
                         at::IntArrayRef shape) {
  TORCH_CHECK(hidden_BTD.defined() && hidden_BTD.sizes() == shape, "hidden states are ",
              hidden_BTD.defined() ? hidden_BTD.sizes() : at::IntArrayRef(), ", expected ", shape,
              " for positions ", positions_BT.sizes());
}

void check_tensor_parallel(const Llama3Config& config, const TensorParallel& tp) {
  tp.check_divides("n_heads", config.n_heads);
  tp.check_divides("n_kv_heads", config.n_kv_heads);
  tp.check_divides("ffn_dim", config.ffn_dim);
  TORCH_CHECK(config.vocab_size >= tp.size(), "tensor parallelism over ", tp.size(),
              " ranks: vocab_size is ", config.vocab_size, "; expected at least a row for each");
}

// The modules to build, checked.
pipeline::StageModules stage_of(const Llama3Config& config, const ModelPlacement& placement) {
  const pipeline::StageModules stage = placement.stage.value_or(
      pipeline::StageModules{.embedding = true, .end_layer = config.n_layers, .head = true});
  TORCH_CHECK(0 <= stage.first_layer && stage.first_layer <= stage.end_layer &&
                  stage.end_layer <= config.n_layers,
              "llama3: the stage has layers ", stage.first_layer, " to ", stage.end_layer,
              " (exclusive), expected some of 0 to ", config.n_layers);
  TORCH_CHECK(stage.embedding || stage.head || stage.num_layers() > 0,
              "llama3: the stage has no module, expected the embedding, a layer or the head");
  return stage;
}

}  // namespace

struct Llama3::Modules {
  Modules(const Llama3Config& config, const AttentionOp& op, const ModelPlacement& placement)
      : stage(stage_of(config, placement)),
        tp(placement.tensor),
        vocabulary(tp.vocabulary(config.vocab_size)) {
    const OwnShape vocabulary_rows = tp.cut({config.vocab_size, config.dim}, kByRows);
    const bool tied_head = stage.head && config.tied_embeddings;
    if (stage.embedding || (tied_head && placement.tied_embedding == nullptr)) {
      // A tied embedding starts as the head: with N(0, 1) the first logits would have a deviation
      // of sqrt(dim).
      declare(embedding_block, tok_embeddings, "tok_embeddings.weight", vocabulary_rows,
              config.tied_embeddings ? head_init(config.dim) : InitSpec::normal(1.0));
    }
    for (int64_t i = stage.first_layer; i < stage.end_layer; ++i) {
      layers.emplace_back(config, op, placement, i);
    }
    if (!stage.head) return;
    declare(norm_block, norm, "norm.weight", whole({config.dim}), InitSpec::constant(1.0));
    if (!tied_head) {
      head_block = &output_block;
      declare(output_block, output, "output.weight", vocabulary_rows, head_init(config.dim));
    } else {
      const bool is_elsewhere = !tok_embeddings.defined();
      head_block = is_elsewhere ? placement.tied_embedding : &embedding_block;
    }
  }
  Modules(const Modules&) = delete;

  std::vector<Block*> blocks() {
    std::vector<Block*> blocks;
    if (stage.embedding) blocks.push_back(&embedding_block);
    for (Layer& layer : layers) blocks.push_back(&layer.block);
    if (stage.head) blocks.push_back(&norm_block);
    if (output.defined()) blocks.push_back(&output_block);
    const bool has_copy = tok_embeddings.defined() && !stage.embedding;
    if (has_copy) blocks.push_back(&embedding_block);
    return blocks;
  }

  std::vector<Block*> segment_blocks() {
    std::vector<Block*> blocks;
    if (stage.embedding) blocks.push_back(&embedding_block);
    for (Layer& layer : layers) blocks.push_back(&layer.block);
    if (stage.head) blocks.insert(blocks.end(), {&norm_block, head_block});
    return blocks;
  }

  const Tensor& head_weight() const {
    TORCH_CHECK(stage.head, "llama3: this stage has no head");
    return *head_block->slots.front().tensor;
  }

  // Any parameter of this stage tells dtype and device: all have the same.
  const Tensor& some_parameter() { return *blocks().front()->slots.front().tensor; }

  pipeline::StageModules stage;
  TensorParallel tp;
  VocabularyPart vocabulary;
  Block embedding_block{.name = "tok_embeddings"};
  Tensor tok_embeddings;
  std::deque<Layer> layers;  // addresses of members are slots: elements never move
  Block norm_block{.name = "norm"};
  Tensor norm;
  Block output_block{.name = "output"};
  Tensor output;

  // The head runs as a segment of the block that owns its weight: the embedding's when tied.
  Block* head_block = nullptr;
};

Llama3::Llama3(const Llama3Config& config, const AttentionOp& attention,
               const ModelPlacement& placement)
    : config_(config) {
  config_.check();
  check_tensor_parallel(config_, placement.tensor);
  modules_ = std::make_unique<Modules>(config_, attention, placement);
}

Llama3::~Llama3() = default;

AttentionMasks Llama3::get_attention_masks(const CreateMaskFn& create_mask_fn, const Batch& batch,
                                           const Tokenizer& /*tokenizer*/,
                                           const Extras& /*extras*/) const {
  const MaskMod rule = parse_mask(config_.mask_rule, {.document_ids_BT = batch.document_ids_BT},
                                  config_.mask_registry);
  const int64_t rows = rule.batch_size() == 1 ? 1 : batch.batch_size();
  const MaskShape shape{
      .batch = rows, .heads = 1, .q_len = batch.seq_len(), .kv_len = batch.seq_len()};
  return {{kGlobalMask, create_mask_fn(rule, shape)}};
}

std::vector<int64_t> Llama3::hidden_shape(int64_t num_rows, int64_t num_tokens) const {
  const TensorParallel& tp = modules_->tp;
  return {num_rows, tp.cuts_sequence() ? num_tokens / tp.size() : num_tokens, config_.dim};
}

Tensor Llama3::trunk(const Tensor& input, const AttentionMasks& masks,
                     const ForwardInputs& inputs) {
  Modules& m = *modules_;
  if (m.stage.embedding) {
    check_tokens(config_, input, inputs.positions_BT);
  } else {
    const Tensor& positions_BT = inputs.positions_BT;
    check_hidden_states(input, positions_BT,
                        hidden_shape(positions_BT.size(0), positions_BT.size(1)));
  }
  TORCH_CHECK(!m.some_parameter().is_meta(),
              "llama3: the parameters are on the meta device; materialise them before a forward");
  const BlockMask mask = masks.at(kGlobalMask);
  const at::ScalarType rope_type =
      m.some_parameter().scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const RopeTable rope = rope_table(inputs.positions_BT, config_.head_dim, config_.rope_theta,
                                    config_.rope_scaling, rope_type);

  Tensor h_BTD = input;
  if (m.stage.embedding) {
    h_BTD = run_segment(m.embedding_block, input, [&m](const Tensor& tokens_BT) {
      return m.tp.leave(embed_part(tokens_BT, m.tok_embeddings, m.vocabulary));
    });
  }
  for (Layer& layer : m.layers) {
    h_BTD = run_segment(layer.block, h_BTD,
                        [&layer, mask, rope, args = inputs.attention_args](const Tensor& x_BTD) {
                          return layer.forward(x_BTD, mask, rope, args);
                        });
  }
  if (!m.stage.head) return h_BTD;
  return run_segment(m.norm_block, h_BTD, [&m, eps = config_.norm_eps](const Tensor& x_BTD) {
    return rms_normalize(x_BTD, m.norm, eps);
  });
}

Tensor Llama3::with_head(const Tensor& hidden_BTD, const HeadFn& function) {
  Modules& m = *modules_;
  TORCH_CHECK(m.stage.head, "llama3: this stage has no head");
  return run_segment(*m.head_block, hidden_BTD, [&m, function](const Tensor& x_BTD) {
    return function(m.tp.enter(x_BTD), m.head_weight(), m.vocabulary);
  });
}

Tensor Llama3::head(const Tensor& hidden_BTD) {
  return with_head(hidden_BTD, [](const Tensor& x_BTD, const Tensor& weight_VD,
                                  const VocabularyPart& vocabulary) {
    return join_logits(project(x_BTD, weight_VD), vocabulary);
  });
}

Tensor Llama3::head_weight() const { return modules_->head_weight(); }

std::vector<Block*> Llama3::blocks() { return modules_->blocks(); }

std::vector<Block*> Llama3::segment_blocks() { return modules_->segment_blocks(); }

std::vector<AttentionSite> Llama3::attention_sites() {
  std::vector<AttentionSite> sites;
  for (Layer& layer : modules_->layers) {
    sites.push_back({kGlobalMask, &layer.attention.inner_attention});
  }
  return sites;
}

int64_t Llama3::num_flops_per_token(int64_t seq_len) const {
  // A tied embedding is the head's matrix and counts; an untied one is only looked up.
  const int64_t lookup_only = config_.tied_embeddings ? 0 : config_.vocab_size * config_.dim;
  const int64_t scores = config_.n_layers * config_.n_heads * config_.head_dim * seq_len;
  return 6 * (config_.num_parameters() - lookup_only) + 12 * scores;
}

std::string Llama3::description() const { return "llama3 " + config_.flavor; }

}  // namespace tessera
