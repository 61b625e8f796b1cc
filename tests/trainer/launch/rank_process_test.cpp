#include "trainer/launch/rank_process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/temp_dir.h"
#include "tests/trainer/launch/process_state.h"

namespace tessera {
namespace {

using testing::eventually;
using testing::is_alive;
using testing::pid_in;

ProgramStart shell(const std::string& script, const Variables& variables = {}) {
  ProgramStart start = {.arguments = {"/bin/sh", "-c", script}, .variables = variables};
  start.variables.emplace_back("PATH", "/usr/bin:/bin");
  return start;
}

std::string read_all(int fd) {
  std::string text;
  char buffer[256];
  for (pollfd entry = {fd, POLLIN, 0}; poll(&entry, 1, -1) == 1;) {
    const ssize_t size = read(fd, buffer, sizeof(buffer));
    if (size <= 0) break;
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

int exit_status(RankProcess& process) {
  EXPECT_TRUE(eventually([&] { return process.poll_end(); }));
  return WEXITSTATUS(process.wait_status());
}

TEST(RankProcess, StreamsAndStatus) {
  RankProcess process(shell("echo out; echo err >&2; exit 7"));
  EXPECT_EQ(read_all(process.output_fd()), "out\n");
  EXPECT_EQ(read_all(process.error_fd()), "err\n");
  EXPECT_EQ(exit_status(process), 7);
  EXPECT_TRUE(process.poll_end()) << "again";
}

TEST(RankProcess, GetsItsVariablesAndNoOthers) {
  setenv("TESSERA_TEST_LEAK", "1", 1);
  RankProcess process(shell("echo $A,$B,$TESSERA_TEST_LEAK", {{"A", "1"}, {"B", "2"}, {"A", "3"}}));
  EXPECT_EQ(read_all(process.output_fd()), "3,2,\n") << "the last value of a name counts";
  unsetenv("TESSERA_TEST_LEAK");
}

TEST(RankProcess, ReadsNothingFromOurInput) {
  RankProcess process(shell("cat; echo end"));
  EXPECT_EQ(read_all(process.output_fd()), "end\n");
}

TEST(RankProcess, AProgramThatIsNotThereExitsWith127AndSaysSo) {
  RankProcess process({.arguments = {"/no/such/program"}});
  EXPECT_EQ(read_all(process.error_fd()),
            "cannot run /no/such/program: No such file or directory\n");
  EXPECT_EQ(exit_status(process), 127);
}

TEST(RankProcess, ReadingDoesNotBlock) {
  RankProcess process(shell("exec sleep 100"));
  char byte = 0;
  EXPECT_EQ(read(process.output_fd(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_FALSE(process.poll_end());
}

TEST(RankProcess, SignalsReachTheWholeGroup) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "pid").string();
  RankProcess process(shell("sh -c 'echo $$ > " + path + "; exec sleep 100'; true"));
  ASSERT_TRUE(eventually([&] { return pid_in(path) != 0; }));
  process.signal(SIGTERM);
  EXPECT_TRUE(eventually([&] { return process.poll_end(); }));
  EXPECT_EQ(WTERMSIG(process.wait_status()), SIGTERM);
  EXPECT_TRUE(eventually([&] { return !is_alive(pid_in(path)); }));
  process.signal(SIGTERM);  // to nobody
}

TEST(RankProcess, WhatItLeavesBehindIsKilled) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "pid").string();
  RankProcess process(shell("sh -c 'echo $$ > " + path + "; exec sleep 100' & while ! [ -s " +
                            path + " ]; do sleep 0.01; done"));
  EXPECT_EQ(exit_status(process), 0);
  EXPECT_TRUE(eventually([&] { return !is_alive(pid_in(path)); }));
}

TEST(RankProcess, TheDestructorKills) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "pid").string();
  {
    const RankProcess process(shell("trap '' TERM; echo $$ > " + path + "; sleep 100"));
    ASSERT_TRUE(eventually([&] { return pid_in(path) != 0; }));
  }
  EXPECT_FALSE(is_alive(pid_in(path)));
}

TEST(RankProcess, DiesWithItsParentWhateverKillsThat) {
  const testing::TempDir folder;
  const std::string path = (folder.path() / "pid").string();
  const pid_t parent = fork();
  if (parent == 0) {
    const RankProcess process(shell("trap '' TERM HUP; echo $$ > " + path + "; exec sleep 100"));
    pause();
    _exit(0);
  }
  ASSERT_TRUE(eventually([&] { return pid_in(path) != 0; }));
  ASSERT_TRUE(is_alive(pid_in(path)));
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return !is_alive(pid_in(path)); }));
}

TEST(RankProcess, HasTheSignalMaskItWasGiven) {
  ProgramStart start = shell("kill -TERM $$; echo still here");
  sigaddset(&start.signal_mask, SIGTERM);
  RankProcess blocked(start);
  EXPECT_EQ(read_all(blocked.output_fd()), "still here\n");
  RankProcess open(shell("kill -TERM $$; echo still here"));
  EXPECT_EQ(read_all(open.output_fd()), "");
}

}  // namespace
}  // namespace tessera
