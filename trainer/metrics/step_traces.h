// [profiling]: Kineto traces of some steps, one file per rank, for chrome://tracing or Perfetto.
//
//   <dump_folder>/<save_traces_folder>/iteration_<step>/rank<r>_trace.json
//
// As in TorchTitan, of every profile_freq steps the last profiler_active ones are recorded and
// written after the last of them; warm-up steps need nothing here. Operators, their backward, and
// collectives (from issue to completion) are spans. One object per process records at a time.
#pragma once

#include <cstdint>
#include <string>

#include "configs/job_config.h"

namespace tessera {

class StepTraces {
 public:
  StepTraces(const Profiling& options, const std::string& dump_folder, int64_t rank);
  ~StepTraces();  // drops a recording that is not complete
  StepTraces(const StepTraces&) = delete;
  StepTraces& operator=(const StepTraces&) = delete;

  // Around each step; steps count from 1. after_step returns the file that it wrote, or "".
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
