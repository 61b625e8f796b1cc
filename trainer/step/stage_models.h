// The models that one rank builds: the whole, or its stages of a pipeline. RankModel
// (trainer/step/rank_model.h) puts them together with their parameters and passes.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/model.h"
#include "models/placement.h"
#include "parallel/comm/device_mesh.h"
#include "parallel/context/context_parallel.h"
#include "parallel/fsdp/sharded_parameters.h"
#include "parallel/pipeline/pipeline_plan.h"
#include "parallel/pipeline/weight_gradients.h"

namespace tessera {

// The stages of one rank. The vectors are in step: models[i] is stage stages[i].
struct StageModels {
  std::vector<int64_t> stages = {};                             // of this rank, ascending
  std::deque<pipeline::WeightGradients> weight_gradients = {};  // one a stage; outlive the models
  std::vector<std::unique_ptr<Model>> models = {};              // one a stage

  std::vector<Block*> blocks() const;  // of all stages
};

// Builds the model, or the stage of it that a placement names, on the meta device.
using MakeModel = std::function<std::unique_ptr<Model>(const ModelPlacement&)>;

// Builds the stages that rank `pipeline_rank` owns in the plan; without a plan, the whole model as
// the only stage. `base` is what all stages have in common (tensor parallelism). Linear layers
// defer their weight gradients only where the schedule splits backward. An embedding that is tied
// to a head on the same rank is one parameter.
StageModels make_stage_models(const std::optional<pipeline::PipelinePlan>& plan,
                              int64_t pipeline_rank, const ModelPlacement& base,
                              const MakeModel& make);

// Replaces each op that attends over rows by one that finds the keys of the ranks that share the
// rows. Ops over a sequence of the model's own stay as they are.
void wrap_attention(const StageModels& models, const ContextParallel& context);

// Parameters that several ranks of the pipeline hold (an embedding tied to the head of another
// rank), by name, and these ranks.
using TiedParameters = std::map<std::string, std::set<int64_t>>;

// The tied parameters of the whole pipeline. Builds every rank's stages with `make` to find them.
TiedParameters tied_parameters(const pipeline::PipelinePlan& plan, const MakeModel& make);

// Makes parameters.finish_gradients() sum the gradients of the tied parameters that this rank
// holds over all their holders, and returns the groups over which it does, one per parameter.
// Collective over the pipeline.
std::vector<ProcessGroup> share_tied_gradients(const pipeline::PipelinePlan& plan,
                                               const DeviceMesh& mesh, const MakeModel& make,
                                               ShardedParameters& parameters);

}  // namespace tessera
