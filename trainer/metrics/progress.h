// The progress line of a terminal, in place below the log:
//
//   step  12/100 [##                  ]  12%  loss 5.1234  4,389 tok/s  elapsed 0:12  ETA 1:28
//
//   Progress progress(log);
//   progress.update({.step = 12, .num_steps = 100, ...});   // after each step
//   progress.clear();                                       // the destructor does so as well
//
// Logger does the drawing: it erases the line when something is logged, draws it again below, cuts
// it to the width of the terminal, and shows nothing at all where the console is not a terminal.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/support/logging.h"

namespace tessera {

struct ProgressState {
  int64_t step = 0;       // last finished step, counted from 1
  int64_t num_steps = 0;  // of the whole run

  // Steps that earlier runs did, before a resumed one: they took none of `elapsed_s`.
  int64_t first_step = 0;

  double loss = 0;
  double tps = 0;        // tokens per second
  double elapsed_s = 0;  // since this run's first step began
};

// The text of the line. The ETA assumes that the steps to come take as long as the steps of this
// run did on average; it is "-:--" before the first.
std::string progress_line(const ProgressState& state);

class Progress {
 public:
  explicit Progress(Logger log);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(const ProgressState& state) const;
  void clear() const;

 private:
  Logger log_;
};

}  // namespace tessera
