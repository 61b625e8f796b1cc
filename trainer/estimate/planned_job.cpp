#include "trainer/estimate/planned_job.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <algorithm>

namespace tessera {
namespace {

bool is_layer(const Block& block) { return block.name.starts_with("layers."); }

// The places of `some` blocks in the list of `all`.
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

PlannedJob::PlannedJob(const JobConfig& job_config, int64_t num_ranks, int64_t own_rank,
                       MakeModel own_model)
    : config(job_config),
      layout(plan_layout(config, num_ranks)),
      mesh(World::planned(own_rank, num_ranks), layout.dims),
      registries(make_registries(config.experimental.custom_import)),
      tokenizer(open_tokenizer(config, registries)),
      make(own_model ? std::move(own_model) : model_maker(config, at::kCPU, registries)),
      weights(layout.dims.cp > 1 ? work_weights(*make({})) : WorkWeights{}),
      rank(rank_model_options(config, layout, mesh, at::kCPU, weights), make),
      create_mask_fn(mask_function(config, at::kCPU, registries, rank.front().mask_config())),
      blocks(rank.blocks()),
      layouts(shard_layouts(blocks, mesh.shard().size())) {
  describe_stages();
}

int64_t PlannedJob::master_bytes() const {
  return static_cast<int64_t>(c10::elementSize(options().master_dtype));
}

int64_t PlannedJob::compute_bytes() const {
  return static_cast<int64_t>(c10::elementSize(options().compute_dtype));
}

void PlannedJob::describe_stages() {
  const StageModels& models = rank.stages();
  for (size_t i = 0; i < models.models.size(); ++i) {
    auto* model = dynamic_cast<Llama3*>(models.models[i].get());
    TORCH_CHECK(model != nullptr, "tessera estimate has no formulas for model ",
                models.models[i]->description(), "; expected llama3");
    PlannedStage stage{.stage = models.stages[i],
                       .model = model,
                       .holds = {.num_layers = model->config().n_layers},
                       .units = units_of(model->blocks(), blocks),
                       .uses = units_of(model->segment_blocks(), blocks)};
    if (layout.pipeline) {
      const pipeline::StageModules& modules =
          layout.pipeline->stages[static_cast<size_t>(stage.stage)];
      stage.holds = {
          .embedding = modules.embedding, .num_layers = modules.num_layers(), .head = modules.head};
    }
    for (const Block* block : model->blocks()) stage.holds.num_recomputed += block->recompute;
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
          .activation_bytes = compute_bytes(),
          .statistic_bytes = statistic_bytes()};
}

int64_t PlannedJob::hidden_bytes() const {
  return compute_bytes() *
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
      AttentionCalls& of_mask = calls[sites[i].kind];
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
    const auto pipeline_rank = static_cast<size_t>(mesh.pp().rank());
    for (const pipeline::Action& action : layout.pipeline->execution.ranks[pipeline_rank]) {
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
