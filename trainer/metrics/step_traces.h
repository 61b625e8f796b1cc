// [profiling]: Kineto traces of some steps, one file per rank, for chrome://tracing or Perfetto.
//
//   <dump_folder>/<save_traces_folder>/iteration_<step>/rank<r>_trace.json
//
// Of every profile_freq steps the last profiler_active ones are recorded, as in TorchTitan, and
// written after the last of them. Warm-up steps (profiler_warmup) need nothing here. Operators,
// their backward, and collectives (from issue to completion) are spans. One object per process
// records at a time.
//
//   StepTraces traces(config.profiling, config.job.dump_folder, rank);
//   traces.before_step(step);
//   ... run the step ...
//   const std::string file = traces.after_step(step);
#pragma once

#include <cstdint>
#include <string>

#include "configs/job_config.h"

namespace tessera {

class StepTraces {
 public:
  // Records nothing, ever, without options.enable_profiling.
  StepTraces(const Profiling& options, const std::string& dump_folder, int64_t rank);
  ~StepTraces();  // drops a recording that is not complete
  StepTraces(const StepTraces&) = delete;
  StepTraces& operator=(const StepTraces&) = delete;

  // Called before and after each step; steps count from 1. after_step returns the path of the file
  // that it wrote, or "". It throws c10::Error naming profiling.save_traces_folder and the path
  // when the file cannot be written.
  void before_step(int64_t step);
  std::string after_step(int64_t step);

 private:
  bool is_first_recorded(int64_t step) const;
  bool is_last_recorded(int64_t step) const;

  Profiling options_;
  std::string folder_;
  int64_t rank_;
  bool is_recording_ = false;
};

}  // namespace tessera
