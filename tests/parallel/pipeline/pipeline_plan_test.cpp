#include "parallel/pipeline/pipeline_plan.h"

#include <gtest/gtest.h>

#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "tests/support/errors.h"

namespace tessera::pipeline {
namespace {

TEST(PipelinePlan, OneRankHoldsTheModel) {
  const PipelinePlan plan = plan_pipeline({.num_layers = 3});
  EXPECT_EQ(plan.stages,
            (std::vector<StageModules>{{.embedding = true, .end_layer = 3, .head = true}}));
  EXPECT_EQ(plan.execution.ranks.size(), 1u);
}

TEST(PipelinePlan, TheScheduleSaysHowManyStagesThereAre) {
  const PipelinePlan one = plan_pipeline({.num_ranks = 2, .num_layers = 4, .num_microbatches = 2});
  EXPECT_EQ(one.stages.size(), 2u);
  const PipelinePlan two = plan_pipeline(
      {.num_ranks = 2, .num_layers = 4, .num_microbatches = 2, .schedule = "interleaved1f1b"});
  EXPECT_EQ(two.stages, split_evenly({.num_stages = 4, .num_layers = 4}));
  EXPECT_EQ(two.schedule.placement, loop_placement(2, 2));
  EXPECT_NO_THROW(validate_plan(two.execution, Transport::kRendezvous));
}

TEST(PipelinePlan, LayersPerStageDecide) {
  PipelineOptions options{.num_ranks = 2,
                          .num_layers = 10,
                          .num_microbatches = 2,
                          .schedule = "LoopedBFS",
                          .layers_per_stage = 2};
  EXPECT_EQ(plan_pipeline(options).stages.size(), 6u);
  options.layers_per_stage = 4;  // 10 layers and the two ends: 3 stages
  EXPECT_ERROR(plan_pipeline(options), "pipeline_parallel_layers_per_stage = 4, for 10 layers",
               "3 stages", "multiple of the 2 ranks");
  options.layers_per_stage = 2;
  options.schedule = "1F1B";
  EXPECT_ERROR(plan_pipeline(options), "3 stages a rank", "1F1B has 1");
}

TEST(PipelinePlan, ModulesDecide) {
  PipelineOptions options{.num_ranks = 2, .num_layers = 2, .num_microbatches = 2};
  options.modules = {{"tok_embeddings", "layers.0", "layers.1"}, {"norm", "output"}};
  EXPECT_EQ(plan_pipeline(options).stages[0].num_layers(), 2);
  options.layers_per_stage = 2;
  EXPECT_ERROR(plan_pipeline(options), "both given");
  options.layers_per_stage = {};
  options.modules->push_back({"output"});
  EXPECT_ERROR(plan_pipeline(options), "module_fqns_per_model_part gives 3 stages",
               "multiple of the 2 ranks");
}

TEST(PipelinePlan, ImpossibleLayoutsAreRefused) {
  EXPECT_ERROR(plan_pipeline({.num_ranks = 9, .num_layers = 6, .num_microbatches = 9}), "9 stages",
               "6 layers", "at most 8");
  EXPECT_ERROR(plan_pipeline({.num_ranks = 4, .num_layers = 6, .num_microbatches = 3}), "1F1B",
               "3 microbatches for 4 stages");
  EXPECT_ERROR(plan_pipeline({.num_ranks = 0, .num_layers = 6}), "pipeline_parallel_degree: got 0");
  EXPECT_ERROR(plan_pipeline({.num_layers = 6, .schedule = "2F2B"}), "\"2F2B\"", "1F1B");
}

TEST(PipelinePlan, AScheduleOfOnesOwn) {
  PipelineOptions options{.num_ranks = 2, .num_layers = 4, .num_microbatches = 2};
  options.own = read_schedule_csv("0F0,0F1,0B1,0B0\n1F0,1F1,1B1,1B0\n");
  const PipelinePlan plan = plan_pipeline(options);
  EXPECT_EQ(plan.schedule.ranks, options.own->ranks);
  EXPECT_EQ(plan.stages.size(), 2u);
  options.num_microbatches = 3;
  EXPECT_ERROR(plan_pipeline(options), "pipeline_parallel_schedule_csv", "2 microbatches",
               "expected 3");
  options.num_microbatches = 2;
  options.layers_per_stage = 2;
  EXPECT_ERROR(plan_pipeline(options), "has 2 stages", "gives 3");
  options.layers_per_stage = {};
  options.num_ranks = 3;
  EXPECT_ERROR(plan_pipeline(options), "2 ranks", "the 3 of pipeline_parallel_degree");
  options.own = read_schedule_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n");
  EXPECT_ERROR(plan_pipeline(options), "deadlock");
}

}  // namespace
}  // namespace tessera::pipeline
