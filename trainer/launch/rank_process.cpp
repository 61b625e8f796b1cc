#include "trainer/launch/rank_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <system_error>

namespace tessera {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// A file descriptor that is closed at the end, unless it was released.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct Pipe {
  Descriptor read_end;
  Descriptor write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) refuse("no pipe for a rank's output");
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  // Only our end: programs do not expect that their own output would block.
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) refuse("no pipe for a rank's output");
  return pipe;
}

// What exec wants, made before the fork: the child of a process with threads may not allocate.
class ExecArguments {
 public:
  explicit ExecArguments(const ProgramStart& start) : arguments_(start.arguments) {
    std::map<std::string, std::string> last;
    for (const auto& [name, value] : start.variables) last[name] = value;
    for (const auto& [name, value] : last)
      environment_.push_back(std::string(name).append("=").append(value));
    argv_ = pointers_to(arguments_);
    envp_ = pointers_to(environment_);
    failure_ = "cannot run " + arguments_[0] + ": ";
  }

  [[noreturn]] void execute() const {
    execve(argv_[0], argv_.data(), envp_.data());
    say(failure_.c_str());
    say(strerrordesc_np(errno));  // async-signal-safe, unlike strerror
    say("\n");
    _exit(127);
  }

 private:
  static std::vector<char*> pointers_to(std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    pointers.reserve(strings.size() + 1);
    for (std::string& string : strings) pointers.push_back(string.data());
    pointers.push_back(nullptr);
    return pointers;
  }
  static void say(const char* text) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, strlen(text));
  }

  std::vector<std::string> arguments_, environment_;
  std::vector<char*> argv_, envp_;
  std::string failure_;
};

// The part between fork and exec, which makes async-signal-safe calls only.
[[noreturn]] void run_child(const ExecArguments& program, const sigset_t& signal_mask, pid_t parent,
                            int input, int output, int error) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // the parent died before the line above
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  sigprocmask(SIG_SETMASK, &signal_mask, nullptr);
  program.execute();
}

}  // namespace

RankProcess::RankProcess(const ProgramStart& start) {
  const ExecArguments program(start);
  Pipe output = make_pipe();
  Pipe error = make_pipe();
  const Descriptor input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (input.get() < 0) refuse("/dev/null cannot be opened");
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) refuse("no process for a rank");
  if (pid_ == 0) {
    run_child(program, start.signal_mask, parent, input.get(), output.write_end.get(),
              error.write_end.get());
  }
  setpgid(pid_, pid_);  // in both: whoever comes first, the group exists when this returns
  output_fd_ = output.read_end.release();
  error_fd_ = error.read_end.release();
}

RankProcess::~RankProcess() {
  if (!wait_status_) {
    signal(SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  }
  close(output_fd_);
  close(error_fd_);
}

void RankProcess::signal(int signal_number) const {
  if (!wait_status_) kill(-pid_, signal_number);
}

bool RankProcess::poll_end() {
  if (wait_status_) return true;
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    refuse("a rank's process cannot be waited for");
  if (info.si_pid == 0) return false;
  signal(SIGKILL);
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) refuse("a rank's process cannot be waited for");
  wait_status_ = status;
  return true;
}

}  // namespace tessera
