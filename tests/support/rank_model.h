// One rank of a training run: its model, put together by RankModel as the train job does it, and
// the step that trains it.
//
//   TrainedRank rank({.mesh = mesh, .seed = 1}, llama_maker(small_llama()));
//   rank.step->run({batch}, 1e-3);
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "attention/registry/registry.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "models/llama3/llama3.h"
#include "trainer/step/rank_model.h"
#include "trainer/step/training_step.h"

namespace tessera::testing {

inline MakeModel llama_maker(const Llama3Config& config, const std::string& attention = "eager") {
  const AttentionOp op = AttentionRegistry::with_builtins().make(attention);
  return [config, op](const ModelPlacement& placement) {
    return std::make_unique<Llama3>(config, op, placement);
  };
}

inline ParameterStoreOptions double_parameters() {
  return {.device = at::kCPU, .master_dtype = at::kDouble, .compute_dtype = at::kDouble};
}

struct TrainedRank {
  TrainedRank(RankModelOptions options, const MakeModel& make,
              const TrainingStepOptions& step_options = {},
              const CreateMaskFn& create_mask_fn = create_block_mask)
      : model(std::move(options), make) {
    model.materialise(tokenizer, create_mask_fn);
    step = std::make_unique<TrainingStep>(model, step_options);
  }

  ParameterStore& parameters() const { return model.parameters(); }

  ByteTokenizer tokenizer;
  RankModel model;
  std::unique_ptr<TrainingStep> step;
};

}  // namespace tessera::testing
