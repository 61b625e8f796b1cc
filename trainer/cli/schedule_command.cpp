// `tessera schedule`: checks, simulates and draws a pipeline schedule
// (trainer/pictures/draw_schedule.h).
#include <c10/util/Exception.h>
#include <unistd.h>

#include <iostream>

#include "data/files/durable_file.h"
#include "parallel/pipeline/schedules/make_schedule.h"
#include "parallel/pipeline/schedules/schedule_csv.h"
#include "trainer/cli/commands.h"
#include "trainer/launch/environment.h"
#include "trainer/pictures/draw_schedule.h"
#include "trainer/pictures/mask_picture.h"
#include "trainer/pictures/schedule_svg.h"

namespace tessera {
namespace {

struct ScheduleCommandOptions {
  std::optional<std::string> schedule{};  // a name; 1F1B
  std::optional<int64_t> num_ranks{};
  std::optional<int64_t> num_microbatches{};
  std::optional<int64_t> stages_per_rank{};
  std::optional<std::string> csv{};        // a file, instead of the above
  std::vector<double> costs{};             // F,B or F,B,I,W, in any unit of time
  double transfer = 0;                     // from one rank to another, in that unit
  std::optional<std::string> svg{};        // a file
  std::optional<std::string> write_csv{};  // a file
  bool json = false;                       // instead of the timeline
};

void add_schedule_options(CommandLine& line, ScheduleCommandOptions& options) {
  OptionGroup named = line.add_group("Schedule", "a named one");
  named.add_option("--schedule", &options.schedule,
                   "GPipe, 1F1B, Interleaved1F1B, LoopedBFS, InterleavedZeroBubble, "
                   "ZBVZeroBubble or DualPipeV; 1F1B",
                   {.value = "NAME"});
  named.add_option("--pp", &options.num_ranks, "ranks of the pipeline", {.value = "N"});
  named.add_option("--microbatches", &options.num_microbatches, "microbatches of a step",
                   {.value = "N"});
  named.add_option("--virtual", &options.stages_per_rank,
                   "stages of a rank; 1 or 2, as the schedule has it", {.value = "N"});
  OptionGroup own = line.add_group("Own", "one's own");
  own.add_option("--csv", &options.csv,
                 "a line per rank of actions such as 2I0 (stage, F, B, I or W, microbatch); see "
                 "docs/pipeline.md",
                 {.value = "FILE"});
}

void add_options(CommandLine& line, ScheduleCommandOptions& options) {
  add_schedule_options(line, options);
  OptionGroup costs = line.add_group("Costs", "in any unit of time");
  costs.add_option("--costs", &options.costs,
                   "forward, backward, backward of the input, of the weights; 1,2,1,1. With two, "
                   "the others are half of B",
                   {.value = "F,B[,I,W]"});
  costs.add_option("--transfer", &options.transfer, "from one rank to another; 0", {.value = "T"});
  OptionGroup output = line.add_group("Output", "a timeline, if not --json");
  output.add_flag("--json", &options.json, "one JSON object instead of the timeline");
  output.add_option("--svg", &options.svg, "draw the timeline into this file", {.value = "FILE"});
  output.add_option("--write-csv", &options.write_csv, "write the schedule into this file",
                    {.value = "FILE"});
}

pipeline::ActionCosts costs_of(const ScheduleCommandOptions& options) {
  const std::vector<double>& given = options.costs;
  TORCH_CHECK(given.empty() || given.size() == 2 || given.size() == 4, "--costs: got ",
              given.size(), " numbers, expected F,B or F,B,I,W");
  pipeline::ActionCosts costs{.transfer = options.transfer};
  if (given.empty()) return costs;
  costs.forward = given[0];
  costs.backward = given[1];
  costs.backward_input = given.size() == 4 ? given[2] : given[1] / 2;
  costs.backward_weight = given.size() == 4 ? given[3] : given[1] / 2;
  return costs;
}

pipeline::Schedule schedule_of(const ScheduleCommandOptions& options) {
  if (options.csv) {
    TORCH_CHECK(!options.schedule && !options.num_ranks && !options.num_microbatches &&
                    !options.stages_per_rank,
                "--csv: the file says everything, expected none of --schedule, --pp, "
                "--microbatches and --virtual");
    return pipeline::load_schedule_csv(*options.csv);
  }
  TORCH_CHECK(options.num_ranks && options.num_microbatches,
              "no schedule: expected --pp and --microbatches, or --csv");
  return pipeline::make_schedule(options.schedule.value_or("1F1B"),
                                 {.num_ranks = *options.num_ranks,
                                  .num_microbatches = *options.num_microbatches,
                                  .stages_per_rank = options.stages_per_rank});
}

// Errors of the view are UsageErrors: whatever is wrong up to here stands on the command line.
ScheduleView view_of(const ScheduleCommandOptions& options) {
  try {
    return view_schedule(schedule_of(options), costs_of(options));
  } catch (const c10::Error& error) {
    throw UsageError(error.what_without_backtrace());
  }
}

void write_csv(const std::string& path, const ScheduleView& view) {
  try {
    write_durable_file(path, write_schedule_csv(view.schedule));
  } catch (c10::Error& error) {
    error.add_context("--write-csv: " + path);
    throw;
  }
}

int run(const ScheduleCommandOptions& options) {
  const ScheduleView view = view_of(options);
  if (options.svg) write_schedule_svg(*options.svg, view);
  if (options.write_csv) write_csv(*options.write_csv, view);
  if (options.json) {
    std::cout << schedule_json(view);
    return kExitOk;
  }
  const Console console = console_of(STDOUT_FILENO);
  std::cout << schedule_summary(view)
            << schedule_timeline(view, {.columns = console.columns,
                                        .color = console.is_terminal && !wants_no_color()});
  if (options.svg) std::cout << "drawn in " << *options.svg << "\n";
  if (options.write_csv) std::cout << "written to " << *options.write_csv << "\n";
  return kExitOk;
}

}  // namespace

Command schedule_command() {
  return make_command("schedule", "check, measure or draw a pipeline schedule", add_options, run);
}

}  // namespace tessera
