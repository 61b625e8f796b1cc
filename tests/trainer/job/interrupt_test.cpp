#include "trainer/job/interrupt.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "tests/support/errors.h"
#include "tests/support/files.h"

namespace tessera {
namespace {

// Runs `body` in a child process whose stderr is caught; the child must end by itself.
template <typename Body>
std::pair<int, std::string> run_in_child(const Body& body) {
  int ends[2];
  if (pipe(ends) != 0) return {-1, "no pipe"};
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    body();
    _exit(99);
  }
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return {status, text};
}

// Waits until a process that does nothing but read waits for what it reads, and has taken the
// signals that it was sent.
void wait_until_asleep(pid_t pid) {
  while (true) {
    std::istringstream status(testing::content_of("/proc/" + std::to_string(pid) + "/status"));
    std::string state, pending;
    for (std::string word; status >> word;) {
      if (word == "State:") status >> state;
      if (word == "ShdPnd:") status >> pending;
    }
    if (state.empty() || state == "Z") return;  // it has ended
    if (state == "S" && pending.find_first_not_of('0') == std::string::npos) return;
    usleep(1000);
  }
}

class InterruptSignal : public ::testing::TestWithParam<int> {};

TEST_P(InterruptSignal, TheFirstOneSetsTheFlag) {
  const InterruptGuard interrupt;
  EXPECT_FALSE(interrupt.requested());
  EXPECT_EQ(interrupt.signal_number(), 0);
  std::raise(GetParam());
  EXPECT_TRUE(interrupt.requested());
  EXPECT_EQ(interrupt.signal_number(), GetParam());
  EXPECT_EQ(interrupt.exit_status(), GetParam() == SIGINT ? 130 : 143);
}

TEST_P(InterruptSignal, TheFirstOneIsAnsweredOnStderr) {
  const auto [status, text] = run_in_child([] {
    const InterruptGuard interrupt;
    std::raise(GetParam());
    _exit(interrupt.exit_status());
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + GetParam());
  EXPECT_EQ(text,
            "\ninterrupted: finishing this step, then stopping; once more (Ctrl-C) to abort now\n");
}

TEST_P(InterruptSignal, TheSecondOneKillsAtOnce) {
  const auto [status, text] = run_in_child([] {
    const InterruptGuard interrupt;
    std::raise(SIGINT);
    std::raise(GetParam());
    _exit(0);  // not reached
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), GetParam());
  EXPECT_EQ(text.find("interrupted"), text.rfind("interrupted")) << "said once";
}

TEST_P(InterruptSignal, AnIgnoredSignalIsHandledAndIgnoredAgainAfterwards) {
  const auto old = std::signal(GetParam(), SIG_IGN);
  {
    const InterruptGuard interrupt;
    std::raise(GetParam());
    EXPECT_TRUE(interrupt.requested());
  }
  EXPECT_EQ(std::signal(GetParam(), old), SIG_IGN);
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptSignal, ::testing::Values(SIGINT, SIGTERM),
                         [](const auto& info) { return info.param == SIGINT ? "Int" : "Term"; });

TEST(Interrupt, ANewGuardStartsWithoutASignal) {
  {
    const InterruptGuard interrupt;
    std::raise(SIGINT);
  }
  const InterruptGuard interrupt;
  EXPECT_FALSE(interrupt.requested());
}

TEST(Interrupt, ThereCanBeOnlyOneGuard) {
  const InterruptGuard interrupt;
  EXPECT_ERROR(InterruptGuard(), "InterruptGuard already");
  std::raise(SIGINT);
  EXPECT_TRUE(interrupt.requested()) << "the first guard is unharmed";
}

TEST(Interrupt, ReadsOfTheStepAtHandAreRestarted) {
  // The child reads from a pipe while a signal arrives; the read must give the byte, not EINTR.
  const auto [status, text] = run_in_child([] {
    int ends[2];
    if (pipe(ends) != 0) _exit(1);
    const InterruptGuard interrupt;
    const pid_t reader = getpid();
    if (fork() == 0) {
      wait_until_asleep(reader);
      kill(reader, SIGINT);
      wait_until_asleep(reader);
      _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    char byte = 0;
    const ssize_t num_read = read(ends[0], &byte, 1);
    _exit(num_read == 1 && byte == 'x' && interrupt.requested() ? 42 : 2);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

}  // namespace
}  // namespace tessera
