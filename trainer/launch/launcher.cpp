#include "trainer/launch/launcher.h"

#include <poll.h>
#include <sched.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

#include "trainer/launch/line_relay.h"
#include "trainer/launch/rank_process.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

// SIGINT, SIGTERM and SIGCHLD as something to poll, while this lives.
class Signals {
 public:
  Signals() {
    sigset_t ours;
    sigemptyset(&ours);
    for (const int number : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&ours, number);
    fd_ = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "no signalfd");
    pthread_sigmask(SIG_BLOCK, &ours, &old_mask_);
    // A parent that ignores SIGCHLD hands that down, and then there is nothing to wait for.
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &standard, &old_child_action_);
  }
  ~Signals() {
    sigaction(SIGCHLD, &old_child_action_, nullptr);
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
    close(fd_);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  const sigset_t& old_mask() const { return old_mask_; }

  // The next SIGINT or SIGTERM that has come; 0 when there is none.
  int take() {
    signalfd_siginfo info{};
    while (read(fd_, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo != SIGCHLD) return static_cast<int>(info.ssi_signo);
    }
    return 0;
  }

 private:
  int fd_ = -1;
  sigset_t old_mask_{};
  struct sigaction old_child_action_ = {};
};

// Text on its way to a file, pipe or terminal. Never blocks: a reader that pauses must not keep
// the launcher from its signals.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}

  void add(std::string_view text) { pending_ += text; }
  bool has_pending() const { return !pending_.empty(); }
  // While this is true the ranks wait with their output, as if they wrote to the reader themselves.
  bool is_full() const { return pending_.size() > size_t{1} << 20; }
  pollfd poll_entry() const { return {has_pending() ? fd_ : -1, POLLOUT, 0}; }

  void write_some() {
    size_t done = 0;
    while (done < pending_.size() && can_write()) {
      const size_t size = std::min<size_t>(pending_.size() - done, PIPE_BUF);
      const ssize_t written = write(fd_, pending_.data() + done, size);
      if (written < 0 && errno == EINTR) continue;
      // There is nobody left to tell.
      done = written < 0 ? pending_.size() : done + static_cast<size_t>(written);
    }
    pending_.erase(0, done);
  }

 private:
  // A pipe that can be written to takes PIPE_BUF bytes without blocking.
  bool can_write() const {
    pollfd entry = poll_entry();
    return poll(&entry, 1, 0) == 1;
  }

  int fd_;
  std::string pending_;
};

// Waits until what is left has been written. Gives up at SIGINT or SIGTERM and returns the signal;
// else returns 0.
int write_all(Signals& signals, Output& output, Output& error) {
  while (output.has_pending() || error.has_pending()) {
    std::array<pollfd, 3> entries = {pollfd{signals.fd(), POLLIN, 0}, output.poll_entry(),
                                     error.poll_entry()};
    poll(entries.data(), entries.size(), -1);
    output.write_some();
    error.write_some();
    if (const int number = signals.take()) return number;
  }
  return signals.take();
}

struct Stream {
  int fd;
  LineRelay relay;
  Output& to;

  // Passes on what is there now: as much as `to` has room for, or all of it.
  void forward(bool all) {
    std::array<char, 16384> buffer;
    while (is_open && (all || !to.is_full())) {
      const ssize_t size = read(fd, buffer.data(), buffer.size());
      if (size < 0 && errno == EINTR) continue;
      is_open = size > 0 || (size < 0 && errno == EAGAIN);
      if (size <= 0) return;
      to.add(relay.add({buffer.data(), static_cast<size_t>(size)}));
    }
  }
  bool is_open = true;
};

struct Rank {
  int64_t number;
  RankProcess process;
  Stream output;
  Stream error;
  bool has_ended = false;

  Rank(int64_t rank, const ProgramStart& start, Output& to_output, Output& to_error)
      : number(rank),
        process(start),
        output{process.output_fd(), LineRelay(prefix(rank)), to_output},
        error{process.error_fd(), LineRelay(prefix(rank)), to_error} {}

  void forward(bool all) {
    output.forward(all);
    error.forward(all);
  }
  // Passes on what the process, which has ended, left in the pipes, unfinished lines as well.
  void finish() {
    forward(/*all=*/true);
    for (Stream* stream : {&output, &error}) {
      stream->to.add(stream->relay.finish());
      stream->is_open = false;
    }
    has_ended = true;
  }

  static std::string prefix(int64_t rank) { return "[rank " + std::to_string(rank) + "] "; }
  bool was_killed() const { return WIFSIGNALED(process.wait_status()); }
  int exit_status() const {
    const int status = process.wait_status();
    return was_killed() ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  std::string how_it_failed() const {
    const std::string& line =
        error.relay.last_error().empty() ? output.relay.last_error() : error.relay.last_error();
    const int signal_number = exit_status() - 128;
    return "rank " + std::to_string(number) +
           (was_killed() ? " was killed by signal " + std::to_string(signal_number) + " (" +
                               strsignal(signal_number) + ")"
                         : " failed with exit status " + std::to_string(exit_status())) +
           (line.empty() ? "" : ": " + line);
  }
};

// How one start of all ranks ended.
struct Outcome {
  int status = 0;
  std::string failure = {};  // of the first rank that failed by itself
  bool was_interrupted = false;
};

class Attempt {
 public:
  Attempt(const LaunchOptions& options, Signals& signals, Output& output, Output& error)
      : options_(options), signals_(signals), output_(output), error_(error) {}

  Outcome run(int64_t restart_count) {
    for (Environment environment : options_.ranks) {
      environment.restart_count = restart_count;
      start(environment);
    }
    while (num_running() > 0) {
      wait_for_something();
      pass_signals_on();
      for (const auto& rank : ranks_) rank->forward(/*all=*/false);
      notice_ends();
      if (kill_at_ && Clock::now() >= *kill_at_) kill_all();
      output_.write_some();
      error_.write_some();
    }
    return outcome();
  }

 private:
  void start(const Environment& environment) {
    ProgramStart start = {options_.command, options_.variables, signals_.old_mask()};
    const Variables own = to_variables(environment);
    start.variables.insert(start.variables.end(), own.begin(), own.end());
    ranks_.push_back(std::make_unique<Rank>(environment.rank, start, output_, error_));
  }

  int64_t num_running() const {
    return std::count_if(ranks_.begin(), ranks_.end(),
                         [](const auto& rank) { return !rank->has_ended; });
  }

  void wait_for_something() {
    std::vector<pollfd> entries = {
        {signals_.fd(), POLLIN, 0}, output_.poll_entry(), error_.poll_entry()};
    for (const auto& rank : ranks_) {
      for (const Stream* stream : {&rank->output, &rank->error}) {
        if (stream->is_open && !stream->to.is_full()) entries.push_back({stream->fd, POLLIN, 0});
      }
    }
    // Another thread of this process might take the SIGCHLD: look from time to time as well.
    std::chrono::milliseconds limit = std::chrono::milliseconds(500);
    if (kill_at_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*kill_at_ - Clock::now());
      limit = std::clamp(left, std::chrono::milliseconds(0), limit);
    }
    poll(entries.data(), entries.size(), static_cast<int>(limit.count()));
  }

  void pass_signals_on() {
    while (const int number = signals_.take()) {
      if (interrupted_by_ != 0) {
        kill_all();
      } else {
        signal_all(number);
      }
      interrupted_by_ = number;
    }
  }

  // Looks for ranks that have ended. When several ends are seen at once, an end by a signal came
  // first: a rank that died so cannot have followed another's failure, while the others lose their
  // peer.
  void notice_ends() {
    std::vector<Rank*> failed;
    for (const auto& rank : ranks_) {
      if (rank->has_ended || !rank->process.poll_end()) continue;
      rank->finish();
      if (is_failure(*rank)) failed.push_back(rank.get());
    }
    if (failed.empty() || is_stopping_) return;
    const auto killed = std::find_if(failed.begin(), failed.end(),
                                     [](const Rank* rank) { return rank->was_killed(); });
    const Rank& first = killed == failed.end() ? *failed.front() : **killed;
    first_failure_ = {first.exit_status(), first.how_it_failed()};
    stop_all();
  }

  bool is_failure(const Rank& rank) const {
    const int status = rank.exit_status();
    return status != 0 && !(interrupted_by_ != 0 && status == 128 + interrupted_by_);
  }

  void signal_all(int number) {
    for (const auto& rank : ranks_) rank->process.signal(number);
  }

  void stop_all() {
    is_stopping_ = true;
    signal_all(SIGTERM);
    kill_at_ = Clock::now() + options_.grace;
  }

  void kill_all() {
    is_stopping_ = true;
    signal_all(SIGKILL);
    kill_at_.reset();
  }

  Outcome outcome() const {
    if (!first_failure_.failure.empty()) {
      return {first_failure_.status, first_failure_.failure, interrupted_by_ != 0};
    }
    const bool all_finished = std::all_of(
        ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank->exit_status() == 0; });
    return {all_finished ? 0 : 128 + interrupted_by_, "", interrupted_by_ != 0};
  }

  const LaunchOptions& options_;
  Signals& signals_;
  Output& output_;
  Output& error_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  int interrupted_by_ = 0;    // the last SIGINT or SIGTERM we got
  bool is_stopping_ = false;  // from here on the ranks end because we say so
  Outcome first_failure_;
  std::optional<Clock::time_point> kill_at_;
};

}  // namespace

std::vector<Environment> ranks_of_machine(const MachineRanks& machine) {
  std::vector<Environment> ranks;
  for (int64_t local_rank = 0; local_rank < machine.num_local; ++local_rank) {
    ranks.push_back({.rank = machine.machine * machine.num_local + local_rank,
                     .world_size = machine.num_machines * machine.num_local,
                     .local_rank = local_rank,
                     .local_world_size = machine.num_local,
                     .master_address = machine.master_address,
                     .master_port = machine.master_port,
                     .store_is_served = true,
                     .launcher = machine.launcher});
  }
  return ranks;
}

int64_t num_threads_per_process(int64_t num_processes) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int64_t num_cores =
      sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return std::max<int64_t>(num_cores / num_processes, 1);
}

int launch(const LaunchOptions& options) {
  Signals signals;
  Output output(options.output_fd), error(options.error_fd);
  for (int64_t restart_count = 0;; ++restart_count) {
    const Outcome outcome = Attempt(options, signals, output, error).run(restart_count);
    const bool restarts = !outcome.failure.empty() && !outcome.was_interrupted &&
                          restart_count < options.max_restarts;
    if (!outcome.failure.empty()) error.add("tessera launch: " + outcome.failure + "\n");
    if (restarts) {
      error.add("tessera launch: restart " + std::to_string(restart_count + 1) + " of " +
                std::to_string(options.max_restarts) + " of all ranks\n");
    }
    const int signal_number = write_all(signals, output, error);
    if (!restarts) return outcome.status;
    if (signal_number != 0) return 128 + signal_number;
  }
}

}  // namespace tessera
