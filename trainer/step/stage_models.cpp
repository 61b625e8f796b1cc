#include "trainer/step/stage_models.h"

#include <algorithm>

namespace tessera {
namespace {

bool splits_backward(const pipeline::PipelinePlan& plan, int64_t rank) {
  const std::vector<pipeline::Action>& actions = plan.schedule.ranks[static_cast<size_t>(rank)];
  return std::any_of(actions.begin(), actions.end(), [](const pipeline::Action& action) {
    return action.kind == pipeline::ActionKind::kBackwardWeight;
  });
}

}  // namespace

std::vector<Block*> StageModels::blocks() const {
  std::vector<Block*> all;
  for (const auto& model : models) {
    for (Block* block : model->blocks()) all.push_back(block);
  }
  return all;
}

StageModels make_stage_models(const std::optional<pipeline::PipelinePlan>& plan,
                              int64_t pipeline_rank, const ModelPlacement& base,
                              const MakeModel& make) {
  StageModels rank;
  if (!plan) {
    rank.stages = {0};
    rank.models.push_back(make(base));
    return rank;
  }
  rank.stages = plan->schedule.placement.stages_of(pipeline_rank);
  const bool defers = splits_backward(*plan, pipeline_rank);
  ModelPlacement placement = base;
  for (const int64_t stage : rank.stages) {
    pipeline::WeightGradients& weight_gradients = rank.weight_gradients.emplace_back();
    placement.stage = plan->stages[static_cast<size_t>(stage)];
    placement.weight_gradients = defers ? &weight_gradients : nullptr;
    rank.models.push_back(make(placement));
    if (placement.stage->embedding) {
      placement.tied_embedding = rank.models.back()->blocks().front();
    }
  }
  return rank;
}

void wrap_attention(const StageModels& models, const ContextParallel& context) {
  for (const auto& model : models.models) {
    for (const AttentionSite& site : model->attention_sites()) {
      if (site.sequence == MaskSequence::kRow) *site.op = context.wrap(*site.op);
    }
  }
}

// Models are built on the meta device, so the stages of the other ranks cost a list of names.
TiedParameters tied_parameters(const pipeline::PipelinePlan& plan, const MakeModel& make) {
  TiedParameters holders;
  for (int64_t rank = 0; rank < plan.schedule.placement.num_ranks; ++rank) {
    const StageModels theirs = make_stage_models(plan, rank, {}, make);
    for (const auto& model : theirs.models) {
      for (const ParameterSlot& slot : model->parameters()) holders[slot.name].insert(rank);
    }
  }
  std::erase_if(holders, [](const auto& item) { return item.second.size() == 1; });
  return holders;
}

std::vector<ProcessGroup> share_tied_gradients(const pipeline::PipelinePlan& plan,
                                               const DeviceMesh& mesh, const MakeModel& make,
                                               ShardedParameters& parameters) {
  std::vector<ProcessGroup> groups;
  for (const auto& [name, ranks] : tied_parameters(plan, make)) {
    if (!ranks.contains(mesh.pp().rank())) continue;
    std::vector<int64_t> global_ranks;
    for (const int64_t rank : ranks) {
      global_ranks.push_back(mesh.pp().ranks()[static_cast<size_t>(rank)]);
    }
    groups.push_back(mesh.world().group("pp tied", global_ranks));
    parameters.share_gradient(name, groups.back());
  }
  return groups;
}

}  // namespace tessera
