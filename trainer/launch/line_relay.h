// The output of one of several processes, as whole lines that say whose they are. Internal to
// trainer/launch/.
//
//   LineRelay relay("[rank 2] ");
//   relay.add("step 1\nst")   -> "[rank 2] step 1\n"
//   relay.add("ep 2")         -> ""
//   relay.finish()            -> "[rank 2] step 2\n"
#pragma once

#include <string>
#include <string_view>

namespace tessera {

class LineRelay {
 public:
  explicit LineRelay(std::string prefix) : prefix_(std::move(prefix)) {}

  // The lines that `bytes` completes, each with prefix and newline. A line of more than
  // kLongestLine bytes comes in pieces, so that a process without newlines cannot fill the memory.
  std::string add(std::string_view bytes);

  // The unfinished line, with prefix and newline; "" when the output ended with a newline.
  std::string finish();

  // The line to show when the process has failed: the last with "error" in it, in any case; without
  // one the last that is not blank; "" without output.
  const std::string& last_error() const { return last_error_.empty() ? last_line_ : last_error_; }

  static constexpr size_t kLongestLine = size_t{64} * 1024;

 private:
  std::string take_line(std::string_view line);

  std::string prefix_;
  std::string rest_;  // of a line without its newline yet
  std::string last_line_;
  std::string last_error_;
};

}  // namespace tessera
