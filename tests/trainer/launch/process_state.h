// Whether processes live, for tests that must leave none.
//
//   ASSERT_TRUE(eventually([&] { return pid_in(file) != 0; }));
//   EXPECT_TRUE(eventually([&] { return !is_alive(pid_in(file)); }));
#pragma once

#include <signal.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

namespace tessera::testing {

// The state of a process as /proc tells it: 'S' sleeps, 'T' is stopped, 'Z' has ended; 0 where
// there is no such process.
inline char state_of(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return 0;
  const size_t state = line.rfind(')') + 2;
  return state < line.size() ? line[state] : 0;
}

// Whether the process lives. A process that has ended but was not waited for (by a container's
// first process, say) counts as gone.
inline bool is_alive(pid_t pid) {
  const char state = state_of(pid);
  return state != 0 && state != 'Z' && state != 'X';
}

// Waits until `condition()` holds, or until `is_over()`, after which it never will, and returns
// whether it holds. There is no limit of time: how long a busy machine takes is no news, and ctest
// ends a test that hangs.
template <typename Condition, typename IsOver>
bool eventually(const Condition& condition, const IsOver& is_over) {
  while (true) {
    const bool was_over = is_over();  // asked first: what it did last counts
    if (condition()) return true;
    if (was_over) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}
template <typename Condition>
bool eventually(const Condition& condition) {
  return eventually(condition, [] { return false; });
}

// The process id that a script wrote into `path` by `echo $$ > path`; 0 while it has not.
inline pid_t pid_in(const std::string& path) {
  std::ifstream file(path);
  pid_t pid = 0;
  std::string line;
  if (std::getline(file, line) && !file.eof()) pid = static_cast<pid_t>(std::stol(line));
  return pid;
}

}  // namespace tessera::testing
