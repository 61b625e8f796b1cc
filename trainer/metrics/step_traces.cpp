#include "trainer/metrics/step_traces.h"

#include <c10/util/Exception.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <filesystem>

namespace tessera {
namespace {

namespace profiler = torch::autograd::profiler;
namespace fs = std::filesystem;

}  // namespace

StepTraces::StepTraces(const Profiling& options, const std::string& dump_folder, int64_t rank)
    : options_(options),
      folder_((fs::path(dump_folder) / options.save_traces_folder).string()),
      rank_(rank) {}

StepTraces::~StepTraces() {
  if (is_recording_) profiler::disableProfiler();
}

bool StepTraces::is_first_recorded(int64_t step) const {
  const int64_t place = (step - 1) % options_.profile_freq;  // from 0
  return place == options_.profile_freq - options_.profiler_active;
}

bool StepTraces::is_last_recorded(int64_t step) const { return step % options_.profile_freq == 0; }

void StepTraces::before_step(int64_t step) {
  if (!options_.enable_profiling || is_recording_ || !is_first_recorded(step)) return;
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  const std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU};
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(
      config, activities,
      {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  is_recording_ = true;
}

std::string StepTraces::after_step(int64_t step) {
  if (!is_recording_ || !is_last_recorded(step)) return "";
  is_recording_ = false;
  const auto result = profiler::disableProfiler();
  const fs::path folder = fs::path(folder_) / ("iteration_" + std::to_string(step));
  std::error_code error;
  fs::create_directories(folder, error);
  TORCH_CHECK(!error, "profiling.save_traces_folder: cannot create ", folder.string(), ": ",
              error.message());
  const std::string path = (folder / ("rank" + std::to_string(rank_) + "_trace.json")).string();
  result->save(path);
  TORCH_CHECK(fs::exists(path), "profiling.save_traces_folder: cannot write ", path);
  return path;
}

}  // namespace tessera
