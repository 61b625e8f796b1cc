#include "trainer/support/logging.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <thread>

#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/cli/pseudo_terminal.h"

namespace tessera {
namespace {

using testing::content_of;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::PseudoTerminal;
using testing::TempDir;

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// A console that is a file and therefore no terminal.
class FileConsole {
 public:
  explicit FileConsole(const TempDir& folder)
      : path_((folder.path() / "console").string()),
        fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND, 0600)) {}
  ~FileConsole() { close(fd_); }
  int fd() const { return fd_; }
  std::string text() const { return content_of(path_); }

 private:
  std::string path_;
  int fd_;
};

struct Logging : ::testing::Test {
  TempDir folder;
  FileConsole console{folder};
  std::string log_file = (folder.path() / "train.log").string();
};

TEST_F(Logging, LinesGoToConsoleAndFileWithTimeAndLevel) {
  const Logger log({.file = log_file, .console_fd = console.fd()});
  log.info("starts");
  log.warning("shortened");
  log.error("failed");
  const auto lines = lines_of(log_file);
  ASSERT_EQ(lines.size(), 3u);
  const std::string time = R"(\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] )";
  EXPECT_TRUE(std::regex_match(lines[0], std::regex(time + "INFO  starts"))) << lines[0];
  EXPECT_TRUE(std::regex_match(lines[1], std::regex(time + "WARN  shortened"))) << lines[1];
  EXPECT_TRUE(std::regex_match(lines[2], std::regex(time + "ERROR failed"))) << lines[2];
  EXPECT_EQ(console.text(), content_of(log_file));
}

TEST_F(Logging, CopiesWriteToTheSamePlaces) {
  Logger log({.file = log_file, .console_fd = console.fd()});
  const Logger copy = log;
  log = Logger();
  copy.info("still here");
  EXPECT_EQ(lines_of(log_file).size(), 1u);
}

TEST_F(Logging, AnEarlierLogIsContinued) {
  Logger({.file = log_file, .console_fd = console.fd()}).info("first run");
  Logger({.file = log_file, .console_fd = console.fd()}).info("second run");
  EXPECT_EQ(lines_of(log_file).size(), 2u);
}

TEST_F(Logging, EveryLineOfAMessageIsALogLine) {
  const Logger log({.file = log_file, .console_fd = console.fd()});
  log.info("a\n\nb\n");
  log.info("");
  const auto lines = lines_of(log_file);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], EndsWith("INFO  a"));
  EXPECT_THAT(lines[1], EndsWith("INFO  "));
  EXPECT_THAT(lines[2], EndsWith("INFO  b"));
  EXPECT_THAT(lines[3], EndsWith("INFO  "));
}

TEST_F(Logging, MessagesAreNotFormatStrings) {
  const Logger log({.file = log_file, .console_fd = console.fd()});
  log.info("{} {0} %s {");
  EXPECT_THAT(content_of(log_file), HasSubstr("INFO  {} {0} %s {\n"));
}

TEST_F(Logging, ColourCodesReachColourConsolesOnly) {
  const PseudoTerminal terminal(80);
  const std::string message = "\x1b[31mstep\x1b[39m \x1b[38;2;180;60;0mloss\x1b[39m end";
  Logger({.file = log_file, .console_fd = terminal.fd()}).info(message);
  EXPECT_THAT(terminal.output(), HasSubstr("\x1b[32mINFO \x1b[0m " + message + "\n"));
  EXPECT_THAT(content_of(log_file), EndsWith("INFO  step loss end\n"));

  Logger({.color = false, .console_fd = terminal.fd()}).info(message);
  EXPECT_THAT(terminal.output(), EndsWith("INFO  step loss end\n"));

  Logger({.console_fd = console.fd()}).info(message);
  EXPECT_THAT(console.text(), EndsWith("INFO  step loss end\n"));
}

TEST_F(Logging, AnUnfinishedColourCodeIsRemovedWithoutHarm) {
  const Logger log({.file = log_file, .console_fd = console.fd()});
  log.info("a\x1b[");
  log.info("b\x1b[31");
  log.info("c\x1b[31x");
  const auto lines = lines_of(log_file);
  EXPECT_THAT(lines[0], EndsWith("INFO  a"));
  EXPECT_THAT(lines[1], EndsWith("INFO  b"));
  EXPECT_THAT(lines[2], EndsWith("INFO  cx"));
}

TEST_F(Logging, AQuietConsoleShowsWarningsAndErrorsOnly) {
  const PseudoTerminal terminal(80);
  const Logger log({.file = log_file, .quiet = true, .console_fd = terminal.fd()});
  log.info("chatter");
  log.status("step 1/2");
  EXPECT_EQ(terminal.output(), "");
  log.warning("careful");
  EXPECT_THAT(terminal.output(), HasSubstr("careful"));
  EXPECT_EQ(lines_of(log_file).size(), 2u);
}

TEST_F(Logging, TheStatusLineStaysBelowTheLog) {
  const PseudoTerminal terminal(80);
  const std::string erase = "\r\x1b[2K";
  {
    const Logger log({.color = false, .console_fd = terminal.fd()});
    EXPECT_TRUE(log.console_is_terminal());
    log.status("step 1/9");
    EXPECT_EQ(terminal.output(), erase + "step 1/9");
    log.info("saved");
    const std::string output = terminal.output();
    EXPECT_EQ(output.substr(0, erase.size()), erase);
    EXPECT_THAT(output, EndsWith("INFO  saved\nstep 1/9"));
    log.status("step 2/9");
    EXPECT_EQ(terminal.output(), erase + "step 2/9");
    log.status("");
    EXPECT_EQ(terminal.output(), erase);
    log.status("");
    EXPECT_EQ(terminal.output(), "") << "nothing to erase twice";
    log.info("done");
    EXPECT_THAT(terminal.output(), Not(HasSubstr("\x1b")));
    log.status("step 3/9");
    EXPECT_EQ(terminal.output(), erase + "step 3/9");
  }
  EXPECT_EQ(terminal.output(), erase) << "erased with the last logger";
}

TEST_F(Logging, TheStatusLineIsCutToTheTerminal) {
  const PseudoTerminal terminal(10);
  const Logger log({.console_fd = terminal.fd()});
  log.status("0123456789abc");
  EXPECT_THAT(terminal.output(), EndsWith("K012345678"));
  log.status("ééééééééééééé");  // two bytes each: cut between characters
  EXPECT_THAT(terminal.output(), EndsWith("Kééééééééé"));
}

TEST_F(Logging, ThereIsNoStatusLineWithoutATerminal) {
  const Logger log({.console_fd = console.fd()});
  EXPECT_FALSE(log.console_is_terminal());
  log.status("step 1/9");
  EXPECT_EQ(console.text(), "");
}

TEST_F(Logging, ADefaultLoggerDiscardsEverything) {
  const Logger log;
  log.info("nothing");
  log.warning("nothing");
  log.error("nothing");
  log.status("nothing");
  EXPECT_FALSE(log.console_is_terminal());
}

TEST_F(Logging, AFileThatCannotBeOpenedIsAnError) {
  const std::string blocker = folder.write("blocker", "a file");
  EXPECT_ERROR(Logger({.file = blocker + "/train.log", .console_fd = console.fd()}),
               "job.dump_folder", blocker + "/train.log", "cannot be opened");
}

TEST_F(Logging, AFullDiskIsToldOnceAndDoesNotStopTheRun) {
  const Logger log({.file = "/dev/full", .console_fd = console.fd()});
  log.info("one");
  log.info("two");
  const std::string text = console.text();
  EXPECT_THAT(text, HasSubstr("the log file /dev/full cannot be written"));
  EXPECT_EQ(text.find("cannot be written"), text.rfind("cannot be written"));
  EXPECT_THAT(text, HasSubstr("INFO  one\n"));
  EXPECT_THAT(text, HasSubstr("INFO  two\n"));
}

TEST_F(Logging, ACrashLosesNoLine) {
  const pid_t child = fork();
  if (child == 0) {
    const Logger log({.file = log_file, .console_fd = console.fd()});
    log.info("last words");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_THAT(content_of(log_file), HasSubstr("last words\n"));
  EXPECT_THAT(console.text(), HasSubstr("last words\n"));
}

TEST_F(Logging, LinesOfSeveralThreadsStayWhole) {
  {
    const Logger log({.file = log_file, .console_fd = console.fd()});
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([log, t] {
        for (int i = 0; i < 100; ++i) log.info("thread " + std::to_string(t) + " says hello");
      });
    }
  }
  const auto lines = lines_of(log_file);
  EXPECT_EQ(lines.size(), 400u);
  for (const std::string& line : lines) EXPECT_THAT(line, EndsWith("says hello"));
  EXPECT_EQ(console.text().size(), content_of(log_file).size());
}

}  // namespace
}  // namespace tessera
