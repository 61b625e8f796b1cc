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

// Whether the process lives. A process that has ended but was not waited for (by a container's
// first process, say) counts as gone.
inline bool is_alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return false;
  const size_t state = line.rfind(')') + 2;
  return state < line.size() && line[state] != 'Z' && line[state] != 'X';
}

// Waits until `condition()` holds, at most `seconds`; returns whether it did.
template <typename Condition>
bool eventually(const Condition& condition, int seconds = 20) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
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
