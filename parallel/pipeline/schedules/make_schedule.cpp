#include "parallel/pipeline/schedules/make_schedule.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "parallel/pipeline/schedules/schedule_builders.h"

namespace tessera::pipeline {
namespace {

using RankBuilder = Actions (*)(const BuilderShape&, int64_t rank);
using ShapeCheck = void (*)(const char* name, const BuilderShape&);

void any_microbatches(const char* /*name*/, const BuilderShape& /*shape*/) {}

void at_least_one_per_stage(const char* name, const BuilderShape& shape) {
  TORCH_CHECK(shape.num_microbatches >= shape.num_stages(), "pipeline schedule ", name, ": got ",
              shape.num_microbatches, " microbatches for ", shape.num_stages(),
              " stages, expected at least as many");
}

void whole_rounds(const char* name, const BuilderShape& shape) {
  const int64_t rounds = shape.num_rounds();
  TORCH_CHECK(shape.num_microbatches % rounds == 0, "pipeline schedule ", name, ": got ",
              shape.num_microbatches, " microbatches on ", shape.num_ranks,
              " ranks, expected a multiple of the ", rounds,
              " rounds (microbatches / ranks, rounded down)");
}

struct NamedSchedule {
  ScheduleTraits traits;
  ShapeCheck check_microbatches;
  RankBuilder build;
};

// The columns are name, fixed and default stages a rank, V, splits backward.
const std::array<NamedSchedule, 7> kSchedules = {
    {{{"GPipe", 1, 1, false, false}, any_microbatches, gpipe},
     {{"1F1B", 1, 1, false, false}, at_least_one_per_stage, one_forward_one_backward},
     {{"Interleaved1F1B", {}, 2, false, false}, whole_rounds, interleaved_one_forward_one_backward},
     {{"LoopedBFS", {}, 2, false, false}, any_microbatches, looped_breadth_first},
     {{"InterleavedZeroBubble", {}, 2, false, true}, whole_rounds, interleaved_zero_bubble},
     {{"ZBVZeroBubble", 2, 2, true, true}, any_microbatches, v_zero_bubble},
     {{"DualPipeV", 2, 2, true, true}, at_least_one_per_stage, dual_pipe_v}}};

bool same_but_for_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

const NamedSchedule& find_schedule(std::string_view name) {
  std::string names;
  for (const NamedSchedule& schedule : kSchedules) {
    if (same_but_for_case(schedule.traits.name, name)) return schedule;
    names += (names.empty() ? "" : ", ") + std::string(schedule.traits.name);
  }
  C10_THROW_ERROR(Error,
                  c10::str("pipeline schedule: got \"", name, "\", expected one of ", names));
}

BuilderShape checked_shape(const NamedSchedule& schedule, const ScheduleShape& shape) {
  const ScheduleTraits& traits = schedule.traits;
  const BuilderShape checked{
      .num_ranks = shape.num_ranks,
      .num_microbatches = shape.num_microbatches,
      .stages_per_rank = shape.stages_per_rank.value_or(traits.default_stages_per_rank)};
  TORCH_CHECK(
      checked.num_ranks >= 1 && checked.num_microbatches >= 1 && checked.stages_per_rank >= 1,
      "pipeline schedule ", traits.name, ": got ", checked.num_ranks, " ranks, ",
      checked.num_microbatches, " microbatches and ", checked.stages_per_rank,
      " stages a rank, expected at least 1 of each");
  TORCH_CHECK(
      checked.stages_per_rank == traits.fixed_stages_per_rank.value_or(checked.stages_per_rank),
      "pipeline schedule ", traits.name, ": got ", checked.stages_per_rank,
      " stages a rank, expected ", traits.fixed_stages_per_rank.value_or(0));
  schedule.check_microbatches(traits.name, checked);
  return checked;
}

}  // namespace

const ScheduleTraits& schedule_traits(std::string_view name) { return find_schedule(name).traits; }

std::vector<ScheduleTraits> all_schedule_traits() {
  std::vector<ScheduleTraits> all;
  all.reserve(kSchedules.size());
  for (const NamedSchedule& schedule : kSchedules) all.push_back(schedule.traits);
  return all;
}

Schedule make_schedule(std::string_view name, const ScheduleShape& shape) {
  const NamedSchedule& named = find_schedule(name);
  const BuilderShape checked = checked_shape(named, shape);
  const auto place = named.traits.is_v ? v_placement : loop_placement;
  Schedule schedule{.name = named.traits.name,
                    .placement = place(checked.num_ranks, checked.stages_per_rank),
                    .num_microbatches = checked.num_microbatches};
  for (int64_t rank = 0; rank < checked.num_ranks; ++rank) {
    schedule.ranks.push_back(named.build(checked, rank));
  }
  return schedule;
}

}  // namespace tessera::pipeline
