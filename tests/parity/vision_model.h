// A model with an encoder, for tests: images as patches -> bidirectional attention inside each
// image -> features in the place of embeddings -> Llama 3.
//
// The encoder joins the embedding: on a pipeline it is on the stage that has the embedding. The
// text model is put together from Llama 3's own stages: the embedding alone, and the rest.
//
// Shape legend: B rows, T tokens, P patch slots, C numbers of a patch, D dim of the text model, V
// dim of the encoder, H heads, E dim of a head.
//
//   VisionModel model({.text = parity_model()}, attention, /*placement=*/{});
//   Batch batch = ...;   // with extras: image_rows(config, first, num_rows, seq_len, num_slots)
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/llama3/llama3.h"
#include "models/model.h"
#include "models/placement.h"

namespace tessera::testing {

struct VisionConfig {
  Llama3Config text;
  int64_t patch_size = 5;  // C
  int64_t dim = 12;        // V
  int64_t n_heads = 3;
  int64_t n_layers = 2;

  // Called with what the forward of a part gets, which it may change.
  std::function<void(bool has_encoder, ForwardInputs& inputs)> on_forward = {};
};

class VisionModel final : public Model {
 public:
  VisionModel(const VisionConfig& config, const AttentionOp& attention,
              const ModelPlacement& placement);
  ~VisionModel() override;

  // Two masks: "global" is (causal | one image) & document, over the tokens; "encoder" is one
  // image, over the patches. Throws c10::Error without extras.
  AttentionMasks get_attention_masks(const CreateMaskFn& create_mask_fn, const Batch& batch,
                                     const Tokenizer& tokenizer,
                                     const Extras& extras) const override;
  std::vector<int64_t> hidden_shape(int64_t num_rows, int64_t num_tokens) const override;
  at::Tensor trunk(const at::Tensor& input, const AttentionMasks& masks,
                   const ForwardInputs& inputs) override;
  ExtrasReader extras_reader() const override;
  at::Tensor head(const at::Tensor& hidden_BTD) override { return rest_->head(hidden_BTD); }
  at::Tensor with_head(const at::Tensor& hidden_BTD, const HeadFn& function) override {
    return rest_->with_head(hidden_BTD, function);
  }
  at::Tensor head_weight() const override { return rest_->head_weight(); }
  int64_t vocab_size() const override { return config_.text.vocab_size; }
  std::vector<Block*> blocks() override;
  std::vector<AttentionSite> attention_sites() override;
  int64_t num_flops_per_token(int64_t seq_len) const override;
  std::string description() const override { return "vision " + config_.text.flavor; }

 private:
  struct Encoder;
  Llama3& some_text() const { return rest_ ? *rest_ : *embedding_; }

  VisionConfig config_;
  std::unique_ptr<Llama3> embedding_;  // null on stages without the embedding
  std::unique_ptr<Encoder> encoder_;   // null where embedding_ is
  std::unique_ptr<Llama3> rest_;       // null on a stage that has nothing else
};

// The extras of rows [first, first + num_rows) of an endless order: 2, 1 or no images each, with
// padding in slots that no image needs.
Extras image_rows(const VisionConfig& config, int64_t first, int64_t num_rows, int64_t seq_len,
                  int64_t num_slots);

}  // namespace tessera::testing
