#include "trainer/launch/line_relay.h"

#include <algorithm>
#include <utility>

namespace tessera {
namespace {

bool names_an_error(std::string_view line) {
  constexpr std::string_view kError = "error";
  const auto same = [](char in_line, char lower) { return (in_line | 0x20) == lower; };
  return std::search(line.begin(), line.end(), kError.begin(), kError.end(), same) != line.end();
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

std::string LineRelay::take_line(std::string_view line) {
  if (!is_blank(line)) last_line_ = line;
  if (names_an_error(line)) last_error_ = line;
  return prefix_ + std::string(line) + "\n";
}

std::string LineRelay::add(std::string_view bytes) {
  std::string lines;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    const size_t taken = std::min(end, kLongestLine - rest_.size());
    rest_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    const bool is_complete = bytes.starts_with('\n');
    if (is_complete) bytes.remove_prefix(1);
    if (is_complete || rest_.size() == kLongestLine)
      lines += take_line(std::exchange(rest_, std::string()));
  }
  return lines;
}

std::string LineRelay::finish() {
  return rest_.empty() ? "" : take_line(std::exchange(rest_, std::string()));
}

}  // namespace tessera
