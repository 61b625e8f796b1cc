// From the rows of a microbatch, with their extras, to what a forward takes: the model's masks, and
// of rows and masks this rank's part.
//
//   const MaskBuilder masked(tokenizer, create_mask_fn, context);
//   const MaskedBatch mine = masked.build(model, batch);
//   model.trunk(mine.batch.tokens_BT, mine.masks, {.positions_BT = mine.batch.positions_BT});
#pragma once

#include "attention/block_mask/block_mask.h"
#include "data/batch.h"
#include "data/tokenizers/tokenizer.h"
#include "models/model.h"
#include "parallel/context/context_parallel.h"

namespace tessera {

class MaskBuilder {
 public:
  // tokenizer must outlive the object. context: the ranks that share each row; the model's
  // attention must be wrapped by it.
  MaskBuilder(const Tokenizer& tokenizer, CreateMaskFn create_mask_fn,
              const ContextParallel& context = {});

  // Throws c10::Error when the ranks cannot share these rows (ContextParallel::tiles_to_share).
  MaskedBatch build(const Model& model, const Batch& batch) const;

  // How evenly these rows will be shared. Throws c10::Error on one context-parallel rank.
  ContextForecast forecast(const Model& model, const Batch& batch) const;

 private:
  AttentionMasks whole_masks(const Model& model, const Batch& batch) const;

  const Tokenizer* tokenizer_;
  ContextParallel context_;
  CreateMaskFn create_mask_fn_;
};

}  // namespace tessera
