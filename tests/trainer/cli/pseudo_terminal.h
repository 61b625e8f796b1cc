// A terminal without a person: text that is written to `fd()` is seen by isatty as on a terminal,
// and read back by `output()`. The constructor throws std::runtime_error where no terminal can be
// had.
//
//   const PseudoTerminal terminal(/*num_columns=*/40);
//   Logger log({.console_fd = terminal.fd()});
//   log.info("hello");
//   EXPECT_THAT(terminal.output(), HasSubstr("hello"));
#pragma once

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace tessera::testing {

class PseudoTerminal {
 public:
  explicit PseudoTerminal(unsigned short num_columns) {
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) {
      throw std::runtime_error("no pseudo-terminal");
    }
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    termios mode{};
    tcgetattr(slave_, &mode);
    cfmakeraw(&mode);  // bytes come out as they went in
    tcsetattr(slave_, TCSANOW, &mode);
    const winsize size{.ws_row = 24, .ws_col = num_columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(slave_, TIOCSWINSZ, &size);
  }
  ~PseudoTerminal() {
    close(slave_);
    close(master_);
  }
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  int fd() const { return slave_; }

  // Everything written since the last call. A terminal passes bytes on before write returns, so
  // none are missed.
  std::string output() const {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(master_, buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
    return text;
  }

 private:
  int master_ = -1;
  int slave_ = -1;
};

}  // namespace tessera::testing
