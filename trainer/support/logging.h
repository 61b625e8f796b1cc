// Log lines for people: to the console (stderr) and to a file at once.
//
//   [2026-11-21 00:50:32] INFO  step:  1  loss:  8.13756 ...
//
// A Logger is a handle: main makes one, hands copies down, and all copies write to the same places.
// Loggers may be used from several threads. Each line is handed to the operating system before the
// call returns, so a crash loses none.
//
// A message may hold SGR colour codes (ESC [ ... m): they reach a console with colours and are
// removed elsewhere, so nobody has to ask where a line goes. A message of several lines becomes as
// many log lines; a final newline adds none.
//
// This header knows neither LibTorch nor spdlog: LibTorch brings its own fmt, which clashes with
// spdlog's, so logging.cpp is compiled without LibTorch's headers.
//
//   Logger log(LogOptions{.file = dump_folder + "/train.log"});
//   log.info("training starts");
//   log.status("step 3/100 ...");   // the last line of a terminal, below whatever is logged
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace tessera {

struct LogOptions {
  // Lines are appended to this file as well; empty: they go to the console only.
  std::string file = {};

  bool color = true;  // colours on the console if it is a terminal; false: never

  // The console shows warnings and errors only, and no status line; the file gets everything.
  bool quiet = false;

  // The console's file descriptor. Tests put a pipe or a pseudo-terminal here.
  int console_fd = 2;
};

class Logger {
 public:
  Logger() = default;  // discards everything

  // Throws std::runtime_error naming job.dump_folder and the file that cannot be opened. A later
  // failure to write the file (a full disk) is told once on the console and never stops the
  // program.
  explicit Logger(const LogOptions& options);

  void info(std::string_view message) const;
  void warning(std::string_view message) const;
  void error(std::string_view message) const;

  // Shows `line` as the last line of the console, in place of the status line before it; "" erases
  // it. Lines that are logged appear above it. The line is cut to the width of the terminal. Does
  // nothing unless the console is a terminal.
  void status(std::string_view line) const;

  bool console_is_terminal() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tessera
