#include "trainer/step/mask_builder.h"

namespace tessera {

MaskBuilder::MaskBuilder(const Tokenizer& tokenizer, CreateMaskFn create_mask_fn,
                         const ContextParallel& context)
    : tokenizer_(&tokenizer), context_(context), create_mask_fn_(std::move(create_mask_fn)) {}

AttentionMasks MaskBuilder::whole_masks(const Model& model, const Batch& batch) const {
  return model.get_attention_masks(context_.tiles_to_share(create_mask_fn_, batch), batch,
                                   *tokenizer_, batch.extras);
}

MaskedBatch MaskBuilder::build(const Model& model, const Batch& batch) const {
  return context_.share({batch, whole_masks(model, batch)});
}

ContextForecast MaskBuilder::forecast(const Model& model, const Batch& batch) const {
  return context_.forecast({batch, whole_masks(model, batch)});
}

}  // namespace tessera
