// Child processes for tests of the command line: start, signal, wait, read what they printed.
//
//   ChildProcess child({TESSERA_BINARY, "train", "--config", path});
//   ProcessResult result = child.wait();
//   EXPECT_EQ(result.status, 0) << result.output;
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/temp_dir.h"

namespace tessera::testing {

// The end of a process.
struct ProcessResult {
  int status = 0;      // exit status, or 128 + signal
  std::string output;  // stdout and stderr together
};

// A process that runs from construction on. The destructor kills it if nobody waited for it.
class ChildProcess {
 public:
  // arguments[0] is the path of the program; `environment` has NAME=value pairs on top of the
  // test's own. Exit status 126 means that the working directory, 127 that the program does not
  // exist.
  explicit ChildProcess(const std::vector<std::string>& arguments,
                        const std::vector<std::string>& environment = {},
                        const std::string& working_directory = ".") {
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ == 0) exec(arguments, environment, working_directory);
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }  // until wait()
  void signal(int number) const { kill(pid_, number); }

  // Waits for the end of the process; to be called once.
  ProcessResult wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), output_so_far()};
  }

  std::string output_so_far() const {
    std::ostringstream text;
    text << std::ifstream(output_path(), std::ios::binary).rdbuf();
    return text.str();
  }

 private:
  std::string output_path() const { return (folder_.path() / "output").string(); }

  [[noreturn]] void exec(const std::vector<std::string>& arguments,
                         const std::vector<std::string>& environment,
                         const std::string& working_directory) const {
    const int output = open(output_path().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    if (chdir(working_directory.c_str()) != 0) _exit(126);
    for (const std::string& pair : environment) {
      const size_t equals = pair.find('=');
      setenv(pair.substr(0, equals).c_str(), pair.substr(equals + 1).c_str(), 1);
    }
    std::vector<char*> argv;
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }

  TempDir folder_;
  pid_t pid_ = -1;
};

// Runs a process to its end.
inline ProcessResult run_process(const std::vector<std::string>& arguments,
                                 const std::vector<std::string>& environment = {},
                                 const std::string& working_directory = ".") {
  return ChildProcess(arguments, environment, working_directory).wait();
}

// The exit status, parts of what was printed, and no backtrace.
inline void expect_output(const ProcessResult& result, int status,
                          const std::vector<std::string>& parts) {
  EXPECT_EQ(result.status, status) << result.output;
  for (const std::string& part : parts) {
    EXPECT_NE(result.output.find(part), std::string::npos) << "no \"" << part << "\" in:\n"
                                                           << result.output;
  }
  EXPECT_EQ(result.output.find("Exception raised from"), std::string::npos) << "a backtrace:\n"
                                                                            << result.output;
}

}  // namespace tessera::testing
