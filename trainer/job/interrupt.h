// Ctrl-C and SIGTERM end a run after the step at hand, with everything written.
//
// While an InterruptGuard lives, the first SIGINT or SIGTERM says so on stderr and sets a flag,
// which the training loop reads after each step. The second puts the default action back and raises
// itself again: the process dies at once. Signals that were ignored before (a background job of a
// script) are handled as well.
//
// A handler can reach nothing but static storage: the flag is one volatile sig_atomic_t in
// interrupt.cpp, written by the handler and owned by the guard, so there can be one guard at a
// time. The train command makes it.
//
//   InterruptGuard interrupt;
//   for (step...) { train(step); if (interrupt.requested()) break; }
//   ... write checkpoint, plot ...
//   return interrupt.requested() ? interrupt.exit_status() : 0;   // 130 after Ctrl-C
#pragma once

#include <csignal>

namespace tessera {

class InterruptGuard {
 public:
  // Installs the handlers. Throws c10::Error if there is a guard already, or if they cannot be
  // installed.
  InterruptGuard();

  // Puts the earlier handlers back and forgets the signal.
  ~InterruptGuard();

  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool requested() const { return signal_number() != 0; }
  int signal_number() const;  // SIGINT or SIGTERM, 0 before the first

  // The status that shells report for the signal; only once requested() is true.
  int exit_status() const { return 128 + signal_number(); }

 private:
  struct sigaction old_int_;
  struct sigaction old_term_;
};

}  // namespace tessera
