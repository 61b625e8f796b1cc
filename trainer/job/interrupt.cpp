#include "trainer/job/interrupt.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

namespace tessera {
namespace {

volatile std::sig_atomic_t received_signal = 0;
volatile std::sig_atomic_t guard_exists = 0;

// The handler makes async-signal-safe calls only.
void on_signal(int signal_number) {
  const int saved_errno = errno;
  if (received_signal != 0) {
    // The signal is blocked until this handler returns; then the default action takes it.
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
    errno = saved_errno;
    return;
  }
  received_signal = signal_number;
  constexpr std::string_view kMessage =
      "\ninterrupted: finishing this step, then stopping; once more (Ctrl-C) to abort now\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
  errno = saved_errno;
}

void install(int signal_number, struct sigaction& old_action) {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // reads and writes of the step at hand must not fail with EINTR
  TORCH_CHECK(sigaction(signal_number, &action, &old_action) == 0,
              "no handler can be set for signal ", signal_number, ": ",
              std::generic_category().message(errno));
}

}  // namespace

InterruptGuard::InterruptGuard() {
  TORCH_CHECK(guard_exists == 0,
              "there is an InterruptGuard already; a process can have one at a time");
  received_signal = 0;
  install(SIGINT, old_int_);
  install(SIGTERM, old_term_);
  guard_exists = 1;
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &old_int_, nullptr);
  sigaction(SIGTERM, &old_term_, nullptr);
  received_signal = 0;
  guard_exists = 0;
}

int InterruptGuard::signal_number() const { return received_signal; }

}  // namespace tessera
