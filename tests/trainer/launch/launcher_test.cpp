#include "trainer/launch/launcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <sstream>

#include "tests/support/files.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/launch/process_state.h"

namespace tessera {
namespace {

using testing::content_of;
using testing::eventually;
using testing::is_alive;
using testing::pid_in;
using namespace std::chrono_literals;

// Shell scripts as ranks; what they print is in two files. $DIR is a folder of the test.
class LauncherTest : public ::testing::Test {
 protected:
  LauncherTest() : output_fd_(open_file("output")), error_fd_(open_file("error")) {}
  ~LauncherTest() override {
    close(output_fd_);
    close(error_fd_);
  }

  LaunchOptions script(const std::string& text, int64_t num_ranks) const {
    return {.command = {"/bin/sh", "-c", text},
            .ranks = ranks_of_machine({.num_local = num_ranks, .master_port = 29500}),
            .variables = {{"PATH", "/usr/bin:/bin"}, {"DIR", folder_.path().string()}},
            .output_fd = output_fd_,
            .error_fd = error_fd_};
  }

  // Runs the launcher in a process of its own, to see what signals do to it.
  static pid_t start(const LaunchOptions& options) {
    const pid_t child = fork();
    if (child == 0) _exit(launch(options));
    return child;
  }

  static int wait_for(pid_t launcher) {
    int status = 0;
    waitpid(launcher, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string output() const { return content_of(path("output")); }
  std::string error() const { return content_of(path("error")); }
  bool have_started(int num_ranks) const {
    for (int rank = 0; rank < num_ranks; ++rank) {
      if (pid_in(path("pid" + std::to_string(rank))) == 0) return false;
    }
    return true;
  }
  bool none_alive(int num_ranks) const {
    for (int rank = 0; rank < num_ranks; ++rank) {
      if (is_alive(pid_in(path("pid" + std::to_string(rank))))) return false;
    }
    return true;
  }

  std::vector<std::string> sorted_output() const {
    std::vector<std::string> lines;
    std::istringstream text(output());
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    return lines;
  }

 private:
  int open_file(const std::string& name) const {
    return open(path(name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }

  testing::TempDir folder_;
  int output_fd_, error_fd_;
};

constexpr const char* kTellPid = "echo $$ > $DIR/pid$RANK; ";

TEST_F(LauncherTest, RanksGetTorchrunsVariables) {
  const LaunchOptions options = script(
      "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT "
      "$TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_USE_AGENT_STORE $TESSERA_LAUNCHER",
      3);
  EXPECT_EQ(launch(options), 0) << error();
  EXPECT_EQ(sorted_output(),
            (std::vector<std::string>{"[rank 0] 0 3 0 3 127.0.0.1 29500 0 True tessera launch",
                                      "[rank 1] 1 3 1 3 127.0.0.1 29500 0 True tessera launch",
                                      "[rank 2] 2 3 2 3 127.0.0.1 29500 0 True tessera launch"}));
  EXPECT_EQ(error(), "");
}

TEST(RanksOfMachine, CountOverMachines) {
  const std::vector<Environment> ranks = ranks_of_machine({.num_local = 2,
                                                           .num_machines = 3,
                                                           .machine = 1,
                                                           .master_address = "node1",
                                                           .master_port = 7});
  ASSERT_EQ(ranks.size(), 2u);
  const Environment expected = {.rank = 3,
                                .world_size = 6,
                                .local_rank = 1,
                                .local_world_size = 2,
                                .master_address = "node1",
                                .master_port = 7,
                                .store_is_served = true,
                                .launcher = "tessera launch"};
  EXPECT_EQ(ranks[1], expected);
  EXPECT_EQ(ranks[0].rank, 2);
}

TEST(NumThreadsPerProcess, SharesTheCoresAndIsNeverZero) {
  const int64_t all = num_threads_per_process(1);
  EXPECT_GE(all, 1);
  EXPECT_EQ(num_threads_per_process(2), std::max<int64_t>(all / 2, 1));
  EXPECT_EQ(num_threads_per_process(1'000'000), 1);
}

TEST_F(LauncherTest, LinesOfRanksDoNotMix) {
  // Each line is written in two halves, while the others write.
  const LaunchOptions options = script(
      "i=0; while [ $i -lt 300 ]; do printf 'a%s' $RANK; printf 'b%s\\n' $RANK; "
      "printf 'c%s' $RANK >&2; printf 'd%s\\n' $RANK >&2; i=$((i+1)); done; printf 'last'",
      3);
  EXPECT_EQ(launch(options), 0);
  const std::vector<std::string> lines = sorted_output();
  ASSERT_EQ(lines.size(), 903u);
  constexpr const char* kDigits = "012";
  for (int rank = 0; rank < 3; ++rank) {
    const std::string prefix = std::string("[rank ") + kDigits[rank] + "] ";
    const std::string whole = {'a', kDigits[rank], 'b', kDigits[rank]};
    EXPECT_EQ(std::count(lines.begin(), lines.end(), prefix + whole), 300);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), prefix + "last"), 1)
        << "a line without a newline comes at the end";
  }
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "[rank 0] c0d0"), 0) << "stderr stays apart";
  EXPECT_NE(error().find("[rank 0] c0d0\n"), std::string::npos);
}

TEST_F(LauncherTest, AllOutputComesOutHoweverMuch) {
  const LaunchOptions options = script("head -c 20000000 /dev/zero | tr '\\0' x", 2);
  EXPECT_EQ(launch(options), 0);
  const std::string text = output();
  EXPECT_EQ(std::count(text.begin(), text.end(), 'x'), 40'000'000);
}

TEST_F(LauncherTest, TheFirstFailureEndsAllAndIsToldLast) {
  LaunchOptions options = script(
      std::string(kTellPid) +
          "if [ $RANK = 2 ]; then while ! [ -s $DIR/pid0 -a -s $DIR/pid1 ]; do sleep 0.01; done; "
          "echo 'tessera: error: the loss is nan' >&2; echo bye >&2; exit 3; fi; "
          "exec sleep 100",
      3);
  EXPECT_EQ(launch(options), 3);
  const std::string text = error();
  const std::string last =
      "tessera launch: rank 2 failed with exit status 3: tessera: error: the loss is nan\n";
  EXPECT_TRUE(text.ends_with(last)) << text;
  EXPECT_NE(text.find("[rank 2] tessera: error: the loss is nan\n"), std::string::npos);
  EXPECT_TRUE(none_alive(3));
}

TEST_F(LauncherTest, ARankKilledByASignalIsToldAsThat) {
  const LaunchOptions options = script(
      std::string(kTellPid) +
          "if [ $RANK = 1 ]; then while ! [ -s $DIR/pid0 ]; do sleep 0.01; done; echo step 5; "
          "kill -9 $$; fi; exec sleep 100",
      2);
  EXPECT_EQ(launch(options), 128 + SIGKILL);
  EXPECT_EQ(error(), "tessera launch: rank 1 was killed by signal 9 (Killed): step 5\n");
  EXPECT_TRUE(none_alive(2));
}

TEST_F(LauncherTest, AFailureWithoutAWordIsToldWithoutOne) {
  EXPECT_EQ(launch(script("exit 4", 1)), 4);
  EXPECT_EQ(error(), "tessera launch: rank 0 failed with exit status 4\n");
}

TEST_F(LauncherTest, RanksThatIgnoreTheRequestToStopAreKilled) {
  LaunchOptions options = script(
      std::string("trap '' TERM; ") + kTellPid +
          "if [ $RANK = 1 ]; then while ! [ -s $DIR/pid0 ]; do sleep 0.01; done; exit 1; fi; "
          "while true; do sleep 0.1; done",
      2);
  options.grace = 100ms;
  EXPECT_EQ(launch(options), 1) << "rank 0 never ends by itself";
  EXPECT_TRUE(none_alive(2));
}

TEST_F(LauncherTest, RanksMayUseTheGracePeriod) {
  LaunchOptions options = script(
      std::string(kTellPid) +
          "if [ $RANK = 1 ]; then while ! [ -s $DIR/ready ]; do sleep 0.01; done; exit 1; fi; "
          "trap 'sleep 0.3; echo saved; exit 0' TERM; echo 1 > $DIR/ready; "
          "while true; do sleep 0.01; done",
      2);
  options.grace = 24h;
  EXPECT_EQ(launch(options), 1);
  EXPECT_EQ(output(), "[rank 0] saved\n");
}

TEST_F(LauncherTest, AProgramThatIsNotThere) {
  LaunchOptions options = script("", 1);
  options.command = {"/no/such/program"};
  EXPECT_EQ(launch(options), 127);
  EXPECT_TRUE(error().ends_with(
      "rank 0 failed with exit status 127: cannot run /no/such/program: No such file or "
      "directory\n"))
      << error();
}

TEST_F(LauncherTest, AllRanksStartAnewUntilTheyFinish) {
  LaunchOptions options = script(
      "echo $RANK $TORCHELASTIC_RESTART_COUNT; "
      "if [ $RANK$TORCHELASTIC_RESTART_COUNT = 10 ]; then echo broken >&2; exit 5; fi; "
      "if [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then exec sleep 100; fi",
      2);
  options.max_restarts = 3;
  EXPECT_EQ(launch(options), 0);
  const std::vector<std::string> lines = sorted_output();
  for (const char* line : {"[rank 1] 1 0", "[rank 0] 0 1", "[rank 1] 1 1"})
    EXPECT_EQ(std::count(lines.begin(), lines.end(), line), 1) << line;
  EXPECT_EQ(error(),
            "[rank 1] broken\n"
            "tessera launch: rank 1 failed with exit status 5: broken\n"
            "tessera launch: restart 1 of 3 of all ranks\n");
}

TEST_F(LauncherTest, RestartsEnd) {
  LaunchOptions options = script("echo $TORCHELASTIC_RESTART_COUNT; exit 6", 1);
  options.max_restarts = 2;
  EXPECT_EQ(launch(options), 6);
  EXPECT_EQ(output(), "[rank 0] 0\n[rank 0] 1\n[rank 0] 2\n");
  EXPECT_TRUE(error().ends_with("rank 0 failed with exit status 6: 2\n")) << error();
}

class LauncherSignal : public LauncherTest, public ::testing::WithParamInterface<int> {};

TEST_P(LauncherSignal, TheFirstIsForwardedOnceAndWaitedFor) {
  // Ranks that finish their step, as `tessera train` does, then exit as it does.
  LaunchOptions options = script(
      "finish() { echo asked; sleep 0.3; echo done; exit $1; }; "
      "trap 'finish 130' INT; trap 'finish 143' TERM; " +
          std::string(kTellPid) + "while true; do sleep 0.01; done",
      2);
  options.max_restarts = 5;
  const pid_t launcher = start(options);
  ASSERT_TRUE(eventually([&] { return have_started(2); }));
  kill(launcher, GetParam());
  EXPECT_EQ(wait_for(launcher), 128 + GetParam());
  EXPECT_EQ(sorted_output(), (std::vector<std::string>{"[rank 0] asked", "[rank 0] done",
                                                       "[rank 1] asked", "[rank 1] done"}));
  EXPECT_EQ(error().find("tessera launch"), std::string::npos) << "an interruption is no failure";
}

TEST_P(LauncherSignal, RanksMayDieOfIt) {
  const pid_t launcher = start(script(std::string(kTellPid) + "exec sleep 100", 2));
  ASSERT_TRUE(eventually([&] { return have_started(2); }));
  kill(launcher, GetParam());
  EXPECT_EQ(wait_for(launcher), 128 + GetParam());
  EXPECT_EQ(error(), "");
  EXPECT_TRUE(none_alive(2));
}

TEST_P(LauncherSignal, TheSecondKills) {
  const pid_t launcher = start(script(
      "trap 'echo asked' INT TERM; " + std::string(kTellPid) + "while true; do sleep 0.01; done",
      2));
  ASSERT_TRUE(eventually([&] { return have_started(2); }));
  kill(launcher, SIGINT);
  ASSERT_TRUE(eventually([&] { return sorted_output().size() == 2; }));
  kill(launcher, GetParam());
  EXPECT_EQ(wait_for(launcher), 128 + GetParam());
  EXPECT_TRUE(none_alive(2));
}

INSTANTIATE_TEST_SUITE_P(Signals, LauncherSignal, ::testing::Values(SIGINT, SIGTERM),
                         [](const auto& info) { return info.param == SIGINT ? "Int" : "Term"; });

TEST_F(LauncherTest, ASignalDoesNotHideAFailure) {
  const pid_t launcher = start(script("trap 'echo no checkpoint: disk error >&2; exit 1' INT; " +
                                          std::string(kTellPid) + "while true; do sleep 0.01; done",
                                      1));
  ASSERT_TRUE(eventually([&] { return have_started(1); }));
  kill(launcher, SIGINT);
  EXPECT_EQ(wait_for(launcher), 1);
  EXPECT_TRUE(error().ends_with("rank 0 failed with exit status 1: no checkpoint: disk error\n"));
}

TEST_F(LauncherTest, RanksThatFinishAfterASignalAreASuccess) {
  const pid_t launcher = start(script(
      "trap 'exit 0' TERM; " + std::string(kTellPid) + "while true; do sleep 0.01; done", 2));
  ASSERT_TRUE(eventually([&] { return have_started(2); }));
  kill(launcher, SIGTERM);
  EXPECT_EQ(wait_for(launcher), 0);
}

TEST_F(LauncherTest, NoRankOutlivesALauncherThatIsKilled) {
  const pid_t launcher = start(script(
      "trap '' TERM INT HUP; " + std::string(kTellPid) + "while true; do sleep 0.1; done", 3));
  ASSERT_TRUE(eventually([&] { return have_started(3); }));
  kill(launcher, SIGKILL);
  EXPECT_EQ(wait_for(launcher), -SIGKILL);
  EXPECT_TRUE(eventually([&] { return none_alive(3); }));
}

TEST_F(LauncherTest, AReaderThatPausesDoesNotKeepItFromSignals) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  LaunchOptions options = script(std::string(kTellPid) + "exec yes", 1);
  options.output_fd = ends[1];
  const pid_t launcher = start(options);
  ASSERT_TRUE(eventually([&] { return have_started(1); }));
  const auto is_full = [&] {
    pollfd entry = {ends[1], POLLOUT, 0};
    return poll(&entry, 1, 0) == 0;
  };
  ASSERT_TRUE(eventually(is_full));  // the launcher cannot write what it holds
  kill(launcher, SIGTERM);
  const auto is_collected = [&] { return testing::state_of(pid_in(path("pid0"))) == 0; };
  EXPECT_TRUE(eventually(is_collected));  // a signal before would be meant for the rank
  kill(launcher, SIGTERM);                // it waits for the reader only; now it gives up
  EXPECT_EQ(wait_for(launcher), 128 + SIGTERM);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(LauncherTest, AnIgnoredChildSignalIsNoObstacle) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGCHLD, SIG_IGN);
    _exit(launch(script("exit 9", 2)));
  }
  EXPECT_EQ(wait_for(child), 9);
}

}  // namespace
}  // namespace tessera
