#include "trainer/estimate/planned_job.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

#include "parallel/activation_checkpoint.h"
#include "trainer/support/extensions.h"

namespace tessera {
namespace {

bool is_layer(const Block& block) { return block.name.starts_with("layers."); }

// Places of blocks in a list of them all.
std::vector<int64_t> units_of(const std::vector<Block*>& some, const std::vector<Block*>& all) {
  std::vector<int64_t> units;
  for (const Block* block : some) {
    const auto place = std::find(all.begin(), all.end(), block);
    TORCH_INTERNAL_ASSERT(place != all.end(), "a block of another rank: ", block->name);
    units.push_back(place - all.begin());
  }
  return units;
}

std::vector<UnitEvent> events_of(UnitEvent::Kind kind, const std::vector<int64_t>& units) {
  std::vector<UnitEvent> events;
  for (const int64_t unit : units) events.push_back({kind, unit});
  if (kind == UnitEvent::Kind::kBackward) std::reverse(events.begin(), events.end());
  return events;
}

}  // namespace

PlannedJob::PlannedJob(const JobConfig& job_config, int64_t num_ranks, int64_t rank,
                       MakePart own_model)
    : config(job_config),
      layout(plan_layout(config, num_ranks)),
      mesh(World::planned(rank, num_ranks), layout.dims),
      options(parameter_store_options(config, at::kCPU)),
      master_bytes(static_cast<int64_t>(c10::elementSize(options.master_dtype))),
      compute_bytes(static_cast<int64_t>(c10::elementSize(options.compute_dtype))) {
  build_model(std::move(own_model));
  blocks = parts.blocks();
  checkpoint_every_nth_layer(blocks, recompute_every_nth_layer(config));
  layouts = shard_layouts(blocks, mesh.shard().size());
  describe_stages();
}

void PlannedJob::build_model(MakePart own_model) {
  Registries registries = make_registries(config.experimental.custom_import);
  ModelRequest request = model_request(config, at::kCPU);
  request.mask_registry = registries.masks;
  make = [request, attention = registries.attention](const ModelPlacement& placement) {
    return make_model(request, attention, placement);
  };
  if (own_model) make = std::move(own_model);
  const ModelPlacement placement = model_placement(config, mesh);
  parts = make_model_parts(layout.pipeline, mesh.pp().rank(), placement, make);
  if (layout.dims.cp > 1) weights = work_weights(*make(placement));
  create_mask_fn = registries.masks.create_mask_fn(
      registries.attention.mask_form(request.attention), parts.models.front()->mask_config());
}

void PlannedJob::describe_stages() {
  for (size_t i = 0; i < parts.models.size(); ++i) {
    auto* model = dynamic_cast<Llama3*>(parts.models[i].get());
    TORCH_CHECK(model != nullptr, "tessera estimate has no formulas for model ",
                parts.models[i]->description(), "; expected llama3");
    PlannedStage stage{.stage = parts.stages[i],
                       .model = model,
                       .part = {.num_layers = model->config().n_layers},
                       .units = units_of(model->blocks(), blocks),
                       .uses = units_of(model->segment_blocks(), blocks)};
    if (layout.pipeline) {
      const pipeline::StageModules& modules =
          layout.pipeline->stages[static_cast<size_t>(stage.stage)];
      stage.part = {
          .embedding = modules.embedding, .num_layers = modules.num_layers(), .head = modules.head};
    }
    for (const Block* block : model->blocks()) stage.part.num_recomputed += block->recompute;
    stages.push_back(std::move(stage));
  }
}

int64_t PlannedJob::rows() const {
  return layout.pipeline ? config.parallelism.pipeline_parallel_microbatch_size
                         : config.training.local_batch_size;
}

int64_t PlannedJob::num_microbatches() const {
  return layout.num_microbatches *
         (layout.pipeline ? layout.pipeline->schedule.num_microbatches : 1);
}

Llama3Step PlannedJob::microbatch() const {
  return {.rows = rows(),
          .seq_len = row_tokens(),
          .tp = layout.dims.tp,
          .sequence_parallel = config.parallelism.enable_sequence_parallel,
          .activation_bytes = compute_bytes,
          .statistic_bytes = statistic_bytes()};
}

int64_t PlannedJob::hidden_bytes() const {
  return compute_bytes *
         c10::multiply_integers(stages.front().model->hidden_shape(rows(), row_tokens()));
}

std::map<std::string, AttentionCalls> PlannedJob::attention_calls() const {
  std::map<std::string, AttentionCalls> calls;
  for (const PlannedStage& stage : stages) {
    std::vector<const Block*> layers;
    for (const Block* block : stage.model->blocks()) {
      if (is_layer(*block)) layers.push_back(block);
    }
    const std::vector<AttentionSite> sites = stage.model->attention_sites();
    TORCH_INTERNAL_ASSERT(sites.size() == layers.size(), "expected a layer to attend once");
    for (size_t i = 0; i < sites.size(); ++i) {
      AttentionCalls& of_mask = calls[sites[i].part];
      ++of_mask.layers;
      of_mask.forwards += layers[i]->recompute ? 2 : 1;
    }
  }
  return calls;
}

// The microbatches that a rank accumulates pass one after the other, each through the whole
// schedule of a pipeline.
std::vector<UnitEvent> PlannedJob::unit_events() const {
  using Kind = UnitEvent::Kind;
  std::vector<UnitEvent> events;
  const auto add = [&events](Kind kind, const std::vector<int64_t>& units) {
    const std::vector<UnitEvent> more = events_of(kind, units);
    events.insert(events.end(), more.begin(), more.end());
  };
  for (int64_t pass = 0; pass < layout.num_microbatches; ++pass) {
    if (!layout.pipeline) {
      add(Kind::kForward, stages.front().uses);
      add(Kind::kBackward, stages.front().uses);
      continue;
    }
    const auto rank = static_cast<size_t>(mesh.pp().rank());
    for (const pipeline::Action& action : layout.pipeline->execution.ranks[rank]) {
      const auto stage = std::find_if(stages.begin(), stages.end(), [&](const PlannedStage& own) {
        return own.stage == action.stage;
      });
      if (action.kind == pipeline::ActionKind::kForward) add(Kind::kForward, stage->uses);
      if (pipeline::is_input_backward(action.kind)) add(Kind::kBackward, stage->uses);
      const bool is_last = pass + 1 == layout.num_microbatches;
      const bool reduces = action.kind == pipeline::ActionKind::kReduceGradients && is_last;
      if (reduces) add(Kind::kReduce, stage->units);
    }
  }
  return events;
}

}  // namespace tessera
