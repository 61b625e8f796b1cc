// PipelinePlan: everything of a pipeline that can be decided, and refused, before a process group
// is made.
//
//   PipelinePlan plan = plan_pipeline({.num_ranks = 4, .num_layers = 32, .num_microbatches = 8,
//                                      .schedule = "Interleaved1F1B"});
//   for (int64_t stage : plan.schedule.placement.stages_of(rank)) build(plan.stages[stage]);
//   // the runtime (pipeline_runtime.h) replays plan.execution.ranks[rank]
//
// Keys, defaults and rules are those of TorchTitan's [parallelism]; errors name the key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/pipeline/communication.h"
#include "parallel/pipeline/schedules/schedule.h"
#include "parallel/pipeline/stage_split.h"

namespace tessera::pipeline {

struct PipelineOptions {
  int64_t num_ranks = 1;  // pipeline_parallel_degree
  int64_t num_layers = 0;
  int64_t num_microbatches = 1;      // see microbatches.h
  std::string schedule = "1F1B";     // pipeline_parallel_schedule
  std::optional<Schedule> own = {};  // instead: of pipeline_parallel_schedule_csv
  // layers_per_stage or modules say where the model is cut; without either it is cut evenly into as
  // many stages as the schedule has.
  std::optional<int64_t> layers_per_stage = {};                       // pipeline_parallel_...
  std::optional<std::vector<std::vector<std::string>>> modules = {};  // module_fqns_per_model_part
  int64_t first_stage_less_layers = 1;                                // pipeline_parallel_...
  int64_t last_stage_less_layers = 1;
};

// The modules of each stage, the schedule, and the lists that the ranks replay.
struct PipelinePlan {
  std::vector<StageModules> stages = {};
  Schedule schedule = {};
  ExecutionPlan execution = {};
};

// Throws c10::Error naming key and numbers when
//  - the number of stages is no multiple of num_ranks, or not what the schedule has;
//  - the model cannot be cut like that (stage_split.h), or both ways of cutting are given;
//  - the schedule does not exist for these ranks and microbatches (make_schedule.h);
//  - a schedule of one's own is for other ranks or microbatches, or cannot run
//    (validate_schedule.h).
PipelinePlan plan_pipeline(const PipelineOptions& options);

}  // namespace tessera::pipeline
