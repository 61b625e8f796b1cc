// Turns the rows of a microbatch, with their extras, into what a forward takes: the model's masks,
// and this rank's part of rows and masks where ranks share rows (context parallelism).
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
  // create_mask_fn: how the model's get_attention_masks builds a mask, e.g. create_block_mask.
  // context: the ranks that share each row; with several of them the model's attention must be
  // wrapped by it (wrap_attention in stage_models.h). tokenizer must outlive the object.
  MaskBuilder(const Tokenizer& tokenizer, CreateMaskFn create_mask_fn,
              const ContextParallel& context = {});

  // The whole rows and their masks on one rank; else this rank's tokens of each row and its part of
  // the masks (ContextParallel::share). Throws c10::Error when the ranks cannot share these rows
  // (ContextParallel::tiles_to_share).
  MaskedBatch build(const Model& model, const Batch& batch) const;

  // How evenly the ranks would share these rows. Throws c10::Error where a single rank has them.
  ContextForecast forecast(const Model& model, const Batch& batch) const;

 private:
  AttentionMasks whole_masks(const Model& model, const Batch& batch) const;

  const Tokenizer* tokenizer_;
  ContextParallel context_;
  CreateMaskFn create_mask_fn_;
};

}  // namespace tessera
