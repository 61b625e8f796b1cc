// This rank's stages of a model that is spread over a pipeline.
//
//   const PipelinePlan plan = plan_pipeline({...});   // before any process group
//   const auto make = [&](const ModelPlacement& placement) {
//     return make_model(request, attention, placement);
//   };
//   PipelineParts parts = make_pipeline_parts(plan, mesh.pp().rank(), {.tensor = ...}, make);
//   ParameterStore parameters(parts.blocks(), {.reduce_at_end = true}, seed, groups);
//   share_tied_gradients(plan, mesh, make, parameters);
//   auto passes = std::make_unique<PipelinePasses>(parts, plan.execution, parameters,
//                                                  MaskBuilder(tokenizer, create_mask_fn),
//                                                  mesh.pp());
//   TrainingStep step(std::move(passes), parameters, options, mesh);
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

struct PipelineParts {
  std::vector<int64_t> stages = {};                             // of this rank, ascending
  std::deque<pipeline::WeightGradients> weight_gradients = {};  // one a stage; outlive the models
  std::vector<std::unique_ptr<Model>> models = {};              // one a stage

  std::vector<Block*> blocks() const;  // of all stages
};

using MakePart = std::function<std::unique_ptr<Model>(const ModelPlacement&)>;

// base: what all stages have in common (tensor parallelism). Linear layers defer their weight
// gradients only where the schedule splits backward. An embedding that is tied to a head on the
// same rank is one parameter.
PipelineParts make_pipeline_parts(const pipeline::PipelinePlan& plan, int64_t pipeline_rank,
                                  const ModelPlacement& base, const MakePart& make);

// The same, or without a plan the whole model as its only stage.
PipelineParts make_model_parts(const std::optional<pipeline::PipelinePlan>& plan,
                               int64_t pipeline_rank, const ModelPlacement& base,
                               const MakePart& make);

// Every place where these parts attend over rows then finds the keys of the ranks that share the
// rows.
void wrap_attention(const PipelineParts& parts, const ContextParallel& context);

// Parameters that several ranks of the pipeline hold (an embedding tied to the head of another
// rank), by name, and these ranks.
using TiedParameters = std::map<std::string, std::set<int64_t>>;
TiedParameters tied_parameters(const pipeline::PipelinePlan& plan, const MakePart& make);

// The gradients of those that this rank holds are summed in parameters.finish_gradients(), over the
// groups returned. Collective over the pipeline.
std::vector<ProcessGroup> share_tied_gradients(const pipeline::PipelinePlan& plan,
                                               const DeviceMesh& mesh, const MakePart& make,
                                               ShardedParameters& parameters);

}  // namespace tessera
