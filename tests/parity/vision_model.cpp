#include "tests/parity/vision_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include "models/layers/layers.h"

namespace tessera::testing {
namespace {

using at::Tensor;

constexpr const char* kTextMask = "global";  // Llama 3's
constexpr const char* kEncoderMask = "encoder";

void declare(Block& block, Tensor& member, const std::string& name, at::IntArrayRef shape,
             const InitSpec& init) {
  member = at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(at::kFloat));
  block.slots.push_back({block.name + "." + name + ".weight", &member, init});
}

const InitSpec kNormal = InitSpec::normal(0.3);

// [B, T, D]: the feature of each token that has one, the embedding of each other token.
Tensor place_features(const Tensor& embedding_BTD, const Tensor& feature_BPD,
                      const Tensor& feature_of_token_BT) {
  const Tensor slot_BTD =
      feature_of_token_BT.clamp_min(0).unsqueeze(-1).expand({-1, -1, feature_BPD.size(2)});
  return at::where(feature_of_token_BT.ne(kNoFeature).unsqueeze(-1),
                   feature_BPD.gather(1, slot_BTD), embedding_BTD);
}

Tensor image_of_token(const Extras& extras) {
  const Tensor image_BT = extras.image_ids_BP.gather(1, extras.feature_of_token_BT.clamp_min(0));
  return image_BT.masked_fill(extras.feature_of_token_BT.eq(kNoFeature), -1);
}

}  // namespace

struct EncoderLayer {
  EncoderLayer(const VisionConfig& config, const AttentionOp& op, int64_t index,
               pipeline::WeightGradients* deferred)
      : block{.name = "vision.layers." + std::to_string(index)},
        n_heads(config.n_heads),
        attend(op),
        weight_gradients(deferred) {
    declare(block, norm, "norm", {config.dim}, InitSpec::constant(1.0));
    declare(block, wqkv, "wqkv", {3 * config.dim, config.dim}, kNormal);
    declare(block, wo, "wo", {config.dim, config.dim}, kNormal);
  }
  EncoderLayer(const EncoderLayer&) = delete;

  Tensor forward(const Tensor& x_BPV, const BlockMask& mask) const {
    const Tensor qkv_BP3V = project(rms_normalize(x_BPV, norm, 1e-5), wqkv, weight_gradients);
    const std::vector<Tensor> qkv = qkv_BP3V.unflatten(-1, {3, n_heads, -1}).unbind(2);
    const Tensor out_BPHE = attend(qkv[0], qkv[1], qkv[2], mask).out_BTHE;
    return x_BPV + project(out_BPHE.flatten(-2), wo, weight_gradients);
  }

  Block block;
  int64_t n_heads;
  AttentionOp attend;
  pipeline::WeightGradients* weight_gradients;
  Tensor norm, wqkv, wo;
};

struct VisionModel::Encoder {
  Encoder(const VisionConfig& config, const AttentionOp& op, pipeline::WeightGradients* deferred)
      : weight_gradients(deferred) {
    declare(patches_block, patches, "projection", {config.dim, config.patch_size}, kNormal);
    for (int64_t i = 0; i < config.n_layers; ++i) layers.emplace_back(config, op, i, deferred);
    declare(features_block, features, "projection", {config.text.dim, config.dim}, kNormal);
  }
  Encoder(const Encoder&) = delete;

  Tensor forward(const Tensor& patches_BPC, const BlockMask& mask) {
    const auto projection = [this](const Tensor& weight) {
      return [this, &weight](const Tensor& x) { return project(x, weight, weight_gradients); };
    };
    Tensor x_BPV =
        run_segment(patches_block, patches_BPC.to(patches.scalar_type()), projection(patches));
    for (EncoderLayer& layer : layers) {
      x_BPV = run_segment(layer.block, x_BPV,
                          [&layer, mask](const Tensor& x) { return layer.forward(x, mask); });
    }
    return run_segment(features_block, x_BPV, projection(features));
  }

  pipeline::WeightGradients* weight_gradients;
  Block patches_block{.name = "vision.patches"};
  Block features_block{.name = "vision.features"};
  std::deque<EncoderLayer> layers;
  Tensor patches, features;
};

VisionModel::VisionModel(const VisionConfig& config, const AttentionOp& attention,
                         const ModelPlacement& placement)
    : config_(config) {
  const pipeline::StageModules stage = placement.stage.value_or(
      pipeline::StageModules{.embedding = true, .end_layer = config.text.n_layers, .head = true});
  ModelPlacement part = placement;
  if (stage.embedding) {
    part.stage = pipeline::StageModules{.embedding = true};
    embedding_ = std::make_unique<Llama3>(config.text, attention, part);
    encoder_ = std::make_unique<Encoder>(config, attention, placement.weight_gradients);
    part.tied_embedding = embedding_->blocks().front();
  }
  if (stage.num_layers() == 0 && !stage.head) return;
  part.stage = stage;
  part.stage->embedding = false;
  rest_ = std::make_unique<Llama3>(config.text, attention, part);
}

VisionModel::~VisionModel() = default;

AttentionMasks VisionModel::get_attention_masks(const CreateMaskFn& create_mask_fn,
                                                const Batch& batch, const Tokenizer& /*tokenizer*/,
                                                const Extras& extras) const {
  TORCH_CHECK(!extras.empty(), "vision model: extras: got none, expected patches");
  const int64_t rows = batch.batch_size(), num_slots = extras.image_ids_BP.size(1);
  const MaskMod text =
      (causal() | block_ids(image_of_token(extras))) & document(batch.document_ids_BT);
  return {
      {kTextMask,
       create_mask_fn(text, {.batch = rows, .q_len = batch.seq_len(), .kv_len = batch.seq_len()})},
      {kEncoderMask,
       create_mask_fn(document(extras.image_ids_BP), {.batch = rows,
                                                      .q_len = num_slots,
                                                      .kv_len = num_slots,
                                                      .sequence = MaskSequence::kOwn})}};
}

std::vector<int64_t> VisionModel::hidden_shape(int64_t num_rows, int64_t num_tokens) const {
  return some_text().hidden_shape(num_rows, num_tokens);
}

ExtrasReader VisionModel::extras_reader() const {
  return encoder_ ? ExtrasReader::kThisStage : ExtrasReader::kOtherStage;
}

Tensor VisionModel::trunk(const Tensor& input, const AttentionMasks& masks,
                          const ForwardInputs& inputs) {
  ForwardInputs mine = inputs;
  if (config_.on_forward) config_.on_forward(encoder_ != nullptr, mine);
  Tensor h_BTD = input;
  if (encoder_) {
    h_BTD = embedding_->trunk(input, masks, mine);
    h_BTD =
        place_features(h_BTD, encoder_->forward(mine.extras.patches_BPC, masks.at(kEncoderMask)),
                       mine.extras.feature_of_token_BT);
  }
  return rest_ ? rest_->trunk(h_BTD, masks, mine) : h_BTD;
}

std::vector<Block*> VisionModel::blocks() {
  std::vector<Block*> blocks;
  if (encoder_) {
    blocks = embedding_->blocks();
    blocks.push_back(&encoder_->patches_block);
    for (EncoderLayer& layer : encoder_->layers) blocks.push_back(&layer.block);
    blocks.push_back(&encoder_->features_block);
  }
  if (!rest_) return blocks;
  for (Block* block : rest_->blocks()) blocks.push_back(block);
  return blocks;
}

std::vector<AttentionSite> VisionModel::attention_sites() {
  std::vector<AttentionSite> sites;
  if (encoder_) {
    for (EncoderLayer& layer : encoder_->layers) {
      sites.push_back({kEncoderMask, &layer.attend, MaskSequence::kOwn});
    }
  }
  if (!rest_) return sites;
  for (const AttentionSite& site : rest_->attention_sites()) sites.push_back(site);
  return sites;
}

int64_t VisionModel::num_flops_per_token(int64_t seq_len) const {
  return some_text().num_flops_per_token(seq_len);
}

Extras image_rows(const VisionConfig& config, int64_t first, int64_t num_rows, int64_t seq_len,
                  int64_t num_slots) {
  static const std::vector<std::vector<int64_t>> kImages = {{2, 3}, {1, 3}, {}, {5}, {2, 2}, {1}};
  const int64_t row_size = num_slots * config.patch_size;
  const Tensor numbers = at::arange(first * row_size, (first + num_rows) * row_size, at::kDouble);
  Extras extras{
      .patches_BPC = at::sin(numbers * 1.7).view({num_rows, num_slots, config.patch_size}),
      .image_ids_BP = at::empty({num_rows, num_slots}, at::kLong),
      .feature_of_token_BT = at::full({num_rows, seq_len}, kNoFeature, at::kLong)};
  for (int64_t row = 0; row < num_rows; ++row) {
    const std::vector<int64_t>& images =
        kImages[static_cast<size_t>((first + row) % static_cast<int64_t>(kImages.size()))];
    const Tensor ids_P = extras.image_ids_BP.select(0, row);
    ids_P.fill_(kNoImage);
    int64_t slot = 0, token = (5 * (first + row)) % (seq_len / 2);
    for (size_t image = 0; image < images.size(); ++image) {
      ids_P.narrow(0, slot, images[image]).fill_(static_cast<int64_t>(image));
      extras.feature_of_token_BT.select(0, row)
          .narrow(0, token, images[image])
          .copy_(at::arange(slot, slot + images[image], at::kLong));
      slot += images[image];
      token += images[image] + 2;
    }
  }
  return extras;
}

}  // namespace tessera::testing
