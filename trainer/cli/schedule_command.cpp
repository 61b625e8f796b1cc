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

}  // namespace

int schedule_command(const ScheduleCommandOptions& options) {
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

}  // namespace tessera
