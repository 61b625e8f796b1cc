#include "trainer/step/rank_model.h"

#include <c10/util/Exception.h>

#include "parallel/activation_checkpoint.h"
#include "trainer/step/pipeline_passes.h"

namespace tessera {
namespace {

template <typename T>
auto& made(const T& member) {
  TORCH_CHECK(static_cast<bool>(member), "RankModel: got a model on the meta device, expected a ",
              "call of materialise() first");
  return *member;
}

}  // namespace

RankModel::RankModel(RankModelOptions options, MakeModel make)
    : options_(std::move(options)), make_(std::move(make)) {
  const DeviceMesh& mesh = options_.mesh;
  options_.parameters.reduce_at_end = options_.pipeline.has_value();
  options_.parameters.sum_whole_gradients_over_tensor = options_.sequence_parallel;
  const ModelPlacement placement{.tensor = TensorParallel(mesh.tp(), options_.sequence_parallel)};
  stages_ = make_stage_models(options_.pipeline, mesh.pp().rank(), placement, make_);
  wrap_attention(stages_, options_.context);
  checkpoint_every_nth_layer(blocks(), options_.recompute_every_nth_layer);
}

void RankModel::materialise(const Tokenizer& tokenizer, CreateMaskFn create_mask_fn) {
  TORCH_CHECK(parameters_ == nullptr, "RankModel::materialise: called a second time");
  const DeviceMesh& mesh = options_.mesh;
  const ParameterGroups groups{
      .shard = mesh.shard(), .replicate = mesh.replicate(), .tensor = mesh.tp()};
  parameters_ =
      std::make_unique<ParameterStore>(blocks(), options_.parameters, options_.seed, groups);
  if (options_.pipeline) {
    tied_groups_ = share_tied_gradients(*options_.pipeline, mesh, make_, *parameters_);
  }
  masks_.emplace(tokenizer, std::move(create_mask_fn), options_.context);
  passes_ = make_passes(options_.pipeline, stages_, *parameters_, *masks_, mesh.pp());
}

ParameterStore& RankModel::parameters() const { return made(parameters_); }
StepPasses& RankModel::passes() const { return made(passes_); }
const MaskBuilder& RankModel::masks() const { return made(masks_); }

}  // namespace tessera
