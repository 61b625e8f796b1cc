// A child process of the launcher: its start, its two streams of output, its end.
//
// The child leads a process group of its own, so that a terminal's Ctrl-C reaches it only through
// the launcher, and that what it starts ends with it. It reads nothing from the terminal. The
// kernel kills it when the thread that started it ends, however that comes (SIGKILL included).
//
//   RankProcess process({.arguments = {"/bin/sh", "-c", "echo hello"}, .variables = variables});
//   ... poll process.output_fd(), read() it ...
//   while (!process.poll_end()) ...;
//   process.wait_status();   // 0
#pragma once

#include <sys/types.h>

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "trainer/launch/environment.h"

namespace tessera {

struct ProgramStart {
  std::vector<std::string> arguments;  // [0] is the path of the program
  Variables variables = {};            // all the program gets; of one name the last counts
  sigset_t signal_mask = {};           // of the program
};

class RankProcess {
 public:
  // Throws std::system_error when no process or pipe can be had. A program that cannot be executed
  // says so on its stderr and exits with 127, as under a shell.
  explicit RankProcess(const ProgramStart& start);
  ~RankProcess();  // kills the group and waits for the process
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  // To be read without blocking; they stay open until the destructor.
  int output_fd() const { return output_fd_; }
  int error_fd() const { return error_fd_; }

  // To the whole group; nothing once the process has ended.
  void signal(int signal_number) const;

  // Whether the process has ended. When it has, what is left of its group is killed, before the
  // process id can go to another. Never blocks.
  bool poll_end();

  // As waitpid gives it, once poll_end() is true.
  int wait_status() const { return wait_status_.value(); }

 private:
  pid_t pid_ = -1;
  int output_fd_ = -1;
  int error_fd_ = -1;
  std::optional<int> wait_status_;
};

}  // namespace tessera
