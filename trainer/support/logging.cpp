// Must not include LibTorch's headers; see logging.h.
#include "trainer/support/logging.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <stdexcept>

namespace tessera {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[2K";

void append_view(spdlog::memory_buf_t& buffer, std::string_view text) {
  buffer.append(text.data(), text.data() + text.size());
}

class LevelFlag : public spdlog::custom_flag_formatter {
 public:
  explicit LevelFlag(bool color) : color_(color) {}

  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& buffer) override {
    const bool is_error = message.level >= spdlog::level::err;
    const bool is_warning = message.level == spdlog::level::warn;
    if (color_) append_view(buffer, is_error ? "\x1b[31m" : is_warning ? "\x1b[33m" : "\x1b[32m");
    append_view(buffer, is_error ? "ERROR" : is_warning ? "WARN " : "INFO ");
    if (color_) append_view(buffer, "\x1b[0m");
  }

  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<LevelFlag>(color_);
  }

 private:
  bool color_;
};

// The message without its colour codes.
class PlainTextFlag : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& buffer) override {
    std::string_view rest(message.payload.data(), message.payload.size());
    for (size_t at = rest.find("\x1b["); at != rest.npos; at = rest.find("\x1b[")) {
      append_view(buffer, rest.substr(0, at));
      rest.remove_prefix(at + 2);
      const size_t end = rest.find_first_not_of("0123456789;:");
      rest.remove_prefix(end == rest.npos ? rest.size() : end + (rest[end] == 'm' ? 1 : 0));
    }
    append_view(buffer, rest);
  }

  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<PlainTextFlag>();
  }
};

std::unique_ptr<spdlog::formatter> make_formatter(bool color) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<LevelFlag>('*', color);
  formatter->add_flag<PlainTextFlag>('&');
  formatter->set_pattern(color ? "[%Y-%m-%d %H:%M:%S] %* %v" : "[%Y-%m-%d %H:%M:%S] %* %&");
  return formatter;
}

// The console is the last resort for messages: a failure to write there has nowhere to be told.
void write_to_console(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

// A line as wide as the terminal would wrap at the cursor, and a wrapped line cannot be erased by a
// carriage return.
std::string cut_to_terminal(std::string_view line, int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::string(line);
  size_t num_columns = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const bool starts_character = (static_cast<unsigned char>(line[i]) & 0xC0) != 0x80;
    if (starts_character && ++num_columns >= size.ws_col) return std::string(line.substr(0, i));
  }
  return std::string(line);
}

// The console shows log lines above and the status line below. Erasing, log line and status line go
// out in one write, so nothing comes between.
class ConsoleSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  ConsoleSink(int fd, bool shows_status)
      : fd_(fd), is_terminal_(isatty(fd) == 1), shows_status_(shows_status && is_terminal_) {}

  ~ConsoleSink() override {
    if (!status_.empty()) write_to_console(fd_, kEraseLine);
  }

  void set_status(std::string_view line) {
    if (!shows_status_) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (line.empty() && status_.empty()) return;
    status_ = cut_to_terminal(line, fd_);
    write_to_console(fd_, std::string(kEraseLine) + status_);
  }

  bool is_terminal() const { return is_terminal_; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string text = status_.empty() ? "" : std::string(kEraseLine);
    text.append(formatted.data(), formatted.size());
    write_to_console(fd_, text.append(status_));
  }

  void flush_() override {}

 private:
  int fd_;
  bool is_terminal_;
  bool shows_status_;
  std::string status_;
};

std::shared_ptr<spdlog::sinks::sink> open_file_sink(const std::string& file) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
    sink->set_formatter(make_formatter(/*color=*/false));
    return sink;
  } catch (const spdlog::spdlog_ex& error) {
    throw std::runtime_error("job.dump_folder: the log file " + file +
                             " cannot be opened for appending: " + error.what());
  }
}

}  // namespace

struct Logger::Impl {
  explicit Impl(const LogOptions& options)
      : console_fd(options.console_fd),
        console(std::make_shared<ConsoleSink>(options.console_fd, /*shows_status=*/!options.quiet)),
        logger("tessera", console) {
    console->set_formatter(make_formatter(options.color && console->is_terminal()));
    if (options.quiet) console->set_level(spdlog::level::warn);
    if (!options.file.empty()) logger.sinks().push_back(open_file_sink(options.file));
    logger.flush_on(spdlog::level::trace);
    logger.set_error_handler([this, file = options.file](const std::string& problem) {
      tell_file_failure(file, problem);
    });
  }

  void write(spdlog::level::level_enum level, std::string_view message) {
    while (true) {
      const size_t end = std::min(message.find('\n'), message.size());
      logger.log(level, spdlog::string_view_t(message.data(), end));
      if (end + 1 >= message.size())
        return;  // a final newline ends the last line and starts no other
      message.remove_prefix(end + 1);
    }
  }

  void tell_file_failure(const std::string& file, const std::string& problem) {
    if (file_failed.exchange(true)) return;
    console->set_status("");
    write_to_console(console_fd, "the log file " + file + " cannot be written: " + problem +
                                     " (said once; the run goes on)\n");
  }

  int console_fd;
  std::shared_ptr<ConsoleSink> console;
  spdlog::logger logger;
  std::atomic<bool> file_failed = false;
};

Logger::Logger(const LogOptions& options) : impl_(std::make_shared<Impl>(options)) {}

void Logger::info(std::string_view message) const {
  if (impl_) impl_->write(spdlog::level::info, message);
}

void Logger::warning(std::string_view message) const {
  if (impl_) impl_->write(spdlog::level::warn, message);
}

void Logger::error(std::string_view message) const {
  if (impl_) impl_->write(spdlog::level::err, message);
}

void Logger::status(std::string_view line) const {
  if (impl_) impl_->console->set_status(line);
}

bool Logger::console_is_terminal() const { return impl_ && impl_->console->is_terminal(); }

}  // namespace tessera
