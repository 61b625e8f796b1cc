#include "parallel/pipeline/pipeline_plan.h"

#include <c10/util/Exception.h>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/validate_schedule.h"

namespace tessera::pipeline {
namespace {

EvenSplit even_split(const PipelineOptions& options, int64_t num_stages) {
  return {.num_stages = num_stages,
          .num_layers = options.num_layers,
          .first_stage_less_layers = options.first_stage_less_layers,
          .last_stage_less_layers = options.last_stage_less_layers};
}

// The number of stages that the options ask for, and the option that asks.
struct StageCount {
  int64_t num_stages = 0;
  std::string source = {};
};

std::optional<StageCount> requested_stages(const PipelineOptions& options) {
  TORCH_CHECK(!options.layers_per_stage || !options.modules,
              "pipeline_parallel_layers_per_stage and module_fqns_per_model_part are both given, "
              "expected one of them");
  if (options.modules) {
    return StageCount{static_cast<int64_t>(options.modules->size()), "module_fqns_per_model_part"};
  }
  if (options.layers_per_stage) {
    return StageCount{
        num_stages_for(*options.layers_per_stage, even_split(options, 1)),
        "pipeline_parallel_layers_per_stage = " + std::to_string(*options.layers_per_stage) +
            ", for " + std::to_string(options.num_layers) + " layers,"};
  }
  return {};
}

Schedule named_schedule(const PipelineOptions& options) {
  const ScheduleTraits& traits = schedule_traits(options.schedule);
  std::optional<int64_t> stages_per_rank;
  if (const std::optional<StageCount> wanted = requested_stages(options)) {
    TORCH_CHECK(wanted->num_stages % options.num_ranks == 0, wanted->source, " gives ",
                wanted->num_stages, " stages, expected a multiple of the ", options.num_ranks,
                " ranks of pipeline_parallel_degree");
    stages_per_rank = wanted->num_stages / options.num_ranks;
    TORCH_CHECK(*stages_per_rank == traits.fixed_stages_per_rank.value_or(*stages_per_rank),
                wanted->source, " gives ", *stages_per_rank, " stages a rank, but schedule ",
                traits.name, " has ", traits.fixed_stages_per_rank.value_or(0));
  }
  return make_schedule(options.schedule, {.num_ranks = options.num_ranks,
                                          .num_microbatches = options.num_microbatches,
                                          .stages_per_rank = stages_per_rank});
}

void check_own(const PipelineOptions& options) {
  const Schedule& own = *options.own;
  validate_schedule(own);
  TORCH_CHECK(own.num_ranks() == options.num_ranks, "pipeline_parallel_schedule_csv: ", own.name,
              " is for ", own.num_ranks(), " ranks, expected the ", options.num_ranks,
              " of pipeline_parallel_degree");
  TORCH_CHECK(own.num_microbatches == options.num_microbatches,
              "pipeline_parallel_schedule_csv: ", own.name, " is for ", own.num_microbatches,
              " microbatches, expected ", options.num_microbatches);
  const std::optional<StageCount> wanted = requested_stages(options);
  TORCH_CHECK(!wanted || wanted->num_stages == own.num_stages(),
              "pipeline_parallel_schedule_csv: ", own.name, " has ", own.num_stages(),
              " stages, but ", wanted->source, " gives ", wanted->num_stages);
}

}  // namespace

PipelinePlan plan_pipeline(const PipelineOptions& options) {
  TORCH_CHECK(options.num_ranks >= 1, "pipeline_parallel_degree: got ", options.num_ranks,
              ", expected at least 1");
  if (options.own) check_own(options);
  PipelinePlan plan{.schedule = options.own ? *options.own : named_schedule(options)};
  plan.stages = options.modules ? split_by_names(*options.modules, options.num_layers)
                                : split_evenly(even_split(options, plan.schedule.num_stages()));
  plan.execution = derive_communication(plan.schedule);
  return plan;
}

}  // namespace tessera::pipeline
