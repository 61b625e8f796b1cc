// The contract between a model and the trainer.
//
// A model reads like its paper: no rank, no degree, no device in a forward. It is built on the meta
// device, lists its parameters as slots in blocks, and is handed its masks explicitly: it stores
// none and its layers build none.
//
//   // Per microbatch:
//   AttentionMasks masks = model.get_attention_masks(create_block_mask, batch, tokenizer, extras);
//   at::Tensor logits_BTV =
//       model.forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT});
//
// Before the first forward the parameters must have storage (parallel/fsdp/sharded_parameters.h, or
// tests/support/flat_parameters.h in tests) and values (initialize_parameters, or a loader such as
// models/llama3/hf.h). A model is used by one thread at a time.
//
// Shape legend: B rows, T tokens, D model dim, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention/block_mask/attention_masks.h"
#include "attention/masks/mask_config.h"
#include "attention/op/attention.h"
#include "data/batch.h"
#include "data/tokenizers/tokenizer.h"
#include "parallel/segment.h"
#include "parallel/slot.h"
#include "parallel/tensor/tensor_parallel.h"

namespace tessera {

// The inputs of a forward besides tokens and masks; none of them gets a gradient.
struct ForwardInputs {
  at::Tensor positions_BT = {};  // int64, RoPE positions
  Extras extras = {};            // empty where extras_reader() is not kThisStage

  // Keyword arguments for every attention function of the model, on top of those it was chosen
  // with; a function that does not know one refuses it by name.
  AttentionArgs attention_args = {};
};

// A place where a model attends: its kind of layer, the name of the mask it asks for, and the op
// that the layer owns. Whoever replaces the op (another backend, a wrapper that exchanges keys)
// does it here.
struct AttentionSite {
  std::string kind;
  AttentionOp* op = nullptr;

  // The sequence that the mask's shape names. Under context parallelism an op over rows is wrapped
  // to find the keys that other ranks hold; an op over a sequence of the model's own has them all.
  MaskSequence sequence = MaskSequence::kRow;
};

// The part of a model that reads ForwardInputs::extras: none, another pipeline stage, or this one.
enum class ExtrasReader { kNone, kOtherStage, kThisStage };

// A function of hidden states and the head's weight, for Model::with_head. hidden_BTD has all
// tokens of the rows, also under sequence parallelism; weight_VD has those rows of the head's
// weight that `vocabulary` says, which is fewer than V under tensor parallelism.
using HeadFn = std::function<at::Tensor(const at::Tensor& hidden_BTD, const at::Tensor& weight_VD,
                                        const VocabularyPart& vocabulary)>;

class Model {
 public:
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The parts of this model's configuration that mask forms may read
  // (attention/registry/mask_registry.h).
  virtual MaskConfig mask_config() const { return {}; }

  // Builds this model's masks for one microbatch by calling create_mask_fn once per kind of layer.
  // The shape of a mask that is not over the rows' tokens says so (MaskSequence::kOwn). Every stage
  // builds all of them, so extras are given to each.
  virtual AttentionMasks get_attention_masks(const CreateMaskFn& create_mask_fn, const Batch& batch,
                                             const Tokenizer& tokenizer,
                                             const Extras& extras) const = 0;

  // [B, T, D] of the hidden states on this rank for B rows of T tokens, also between pipeline
  // stages; under sequence parallelism this rank's tokens.
  virtual std::vector<int64_t> hidden_shape(int64_t num_rows, int64_t num_tokens) const = 0;

  // Hidden states [B, T, D] after the final norm, from tokens int64 [B, T]. A pipeline stage
  // (models/placement.h) without the embedding takes the hidden states of the stage before, one
  // without the head returns those after its last layer; hidden_shape tells their shape. Throws
  // c10::Error for inputs of another shape or dtype and for parameters on the meta device.
  virtual at::Tensor trunk(const at::Tensor& input, const AttentionMasks& masks,
                           const ForwardInputs& inputs) = 0;

  // Tells where extras are read. The stage with the encoder reads them, and only that stage gets
  // them in its forward; the trainer refuses a batch with extras where no stage reads them. Under
  // sequence parallelism embeddings are cut by tokens and feature_of_token_BT is not: a model that
  // reads extras cuts it. Ranks of FSDP must run the same blocks: an encoder runs for every batch,
  // whose slots may all be padding.
  virtual ExtrasReader extras_reader() const { return ExtrasReader::kNone; }

  // Logits [B, T, V] of hidden states [B, T, D]. head, with_head and head_weight throw c10::Error
  // on a pipeline stage without the head.
  virtual at::Tensor head(const at::Tensor& hidden_BTD) = 0;

  // Runs `function` on hidden states and the head's weight as a segment of the block that owns the
  // weight, and returns its result: for losses that never hold the whole logits. See HeadFn.
  virtual at::Tensor with_head(const at::Tensor& hidden_BTD, const HeadFn& function) = 0;

  // The head's weight [V, D], or this rank's rows of it: the slot's own tensor, so its
  // gradient is the slot's. Where FSDP shards the weight, it is whole only inside with_head.
  virtual at::Tensor head_weight() const = 0;

  virtual int64_t vocab_size() const = 0;  // of the whole model

  at::Tensor forward(const at::Tensor& input, const AttentionMasks& masks,
                     const ForwardInputs& inputs) {
    return head(trunk(input, masks, inputs));
  }

  // Units of this rank in the order of the forward pass: embedding, each transformer layer, the
  // norm, the head. Addresses stay valid for the model's life.
  virtual std::vector<Block*> blocks() = 0;

  // Every place where this model attends, in the order of the forward pass. Addresses stay valid
  // for the model's life.
  virtual std::vector<AttentionSite> attention_sites() { return {}; }

  // Floating-point operations of forward and backward per token at this row length, as TorchTitan
  // counts them (6 per weight without the embedding + 12 * L * H * head_dim * seq_len; no discount
  // for masks).
  virtual int64_t num_flops_per_token(int64_t seq_len) const = 0;

  // One line for the start banner, e.g. "llama3 debugmodel".
  virtual std::string description() const = 0;

  // All slots of all blocks, in order. A tied parameter has one slot.
  std::vector<ParameterSlot> parameters();
  int64_t num_parameters();  // elements of whole parameters, also where they are cut

 protected:
  Model() = default;
};

// Fills every parameter as its slot says (models/init/init.h): the same seed gives the same bits.
// Every parameter must be whole on this rank and have storage. Throws c10::Error naming the
// parameter that has no storage or no floating-point dtype. Where ranks hold parts, the trainer
// calls initialize_shard for each part instead.
void initialize_parameters(Model& model, uint64_t seed);

class AttentionRegistry;

// Switches a built model to other attention ("sdpa", or by kind of layer: "flex, sliding=sdpa"; see
// attention/registry/attention_choice.h). Throws c10::Error, and changes nothing, for names,
// arguments and kinds that do not exist, for a model that lists no sites, and for a backend whose
// masks are built in another form than those that the model gets.
void set_attention(Model& model, const AttentionRegistry& registry, const std::string& choices);

}  // namespace tessera
