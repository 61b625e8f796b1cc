#include "trainer/support/text_format.h"

#include <array>
#include <charconv>
#include <cmath>

namespace tessera {
namespace {

std::string two_digits(int64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); }

}  // namespace

std::string with_commas(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string short_count(int64_t value) {
  constexpr std::array<const char*, 5> kUnits = {"", " K", " M", " B", " T"};
  double scaled = static_cast<double>(value);
  size_t unit = 0;
  // 999.95 would print as 1000.0: it belongs to the next unit.
  while (std::abs(scaled) >= 999.95 && unit + 1 < kUnits.size()) {
    scaled /= 1000;
    ++unit;
  }
  if (unit == 0) return std::to_string(value);
  return fixed(scaled, 1) + kUnits[unit];
}

std::string fixed(double value, int num_decimals, size_t width) {
  if (std::isnan(value)) value = std::abs(value);  // its sign says nothing
  std::array<char, 512> buffer;  // the largest double has 309 digits before the point
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::fixed, num_decimals);
  const std::string_view digits(
      buffer.data(), error == std::errc() ? static_cast<size_t>(end - buffer.data()) : 0);
  return pad_left(digits, width);
}

std::string duration(double seconds) {
  // Beyond 1e9 seconds (30 years) the estimate says nothing.
  if (!(seconds >= 0 && seconds < 1e9)) return "-:--";
  const auto total = static_cast<int64_t>(seconds);
  const int64_t days = total / 86400;
  const int64_t hours = total / 3600 % 24;
  const std::string tail = two_digits(total / 60 % 60) + ":" + two_digits(total % 60);
  if (days > 0) return std::to_string(days) + "d " + two_digits(hours) + ":" + tail;
  if (hours > 0) return std::to_string(hours) + ":" + tail;
  return std::to_string(total / 60) + ":" + two_digits(total % 60);
}

std::string pad_left(std::string_view text, size_t width) {
  const size_t num_blanks = width > text.size() ? width - text.size() : 0;
  return std::string(num_blanks, ' ').append(text);
}

std::string pad_right(std::string_view text, size_t width) {
  std::string padded(text);
  if (padded.size() < width) padded.resize(width, ' ');
  return padded;
}

}  // namespace tessera
