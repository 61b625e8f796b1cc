// A child process of the launcher: its start, its two streams of output, its end. Internal to
// trainer/launch/.
//
// The child leads a process group of its own, so that a terminal's Ctrl-C reaches it only through
// the launcher, and so that the processes it starts end with it. It reads nothing from the
// terminal. The kernel kills it when the thread that started it ends, however that comes (SIGKILL
// included).
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
  Variables variables = {};            // all that the program gets; the last of a name counts
  sigset_t signal_mask = {};           // with which the program starts
};

class RankProcess {
 public:
  // Throws std::system_error when no process or pipe can be had. A program that cannot be executed
  // says so on its stderr and exits with 127, as under a shell.
  explicit RankProcess(const ProgramStart& start);
  ~RankProcess();  // kills the group and waits for the process
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  // The read ends of the program's stdout and stderr. They never block and stay open until the
  // destructor.
  int output_fd() const { return output_fd_; }
  int error_fd() const { return error_fd_; }

  // Sends the signal to the whole group; does nothing once poll_end() has been true.
  void signal(int signal_number) const;

  // Whether the process has ended. When it has, what is left of its group is killed, before the
  // process id can go to another. Never blocks. Throws std::system_error when the process cannot be
  // waited for.
  bool poll_end();

  // The status that waitpid gives, for WIFEXITED and the like. Only once poll_end() has been true.
  int wait_status() const { return wait_status_.value(); }

 private:
  pid_t pid_ = -1;
  int output_fd_ = -1;
  int error_fd_ = -1;
  std::optional<int> wait_status_;
};

}  // namespace tessera
