// Numbers as people read them; independent of the locale. Nothing here throws.
//
//   with_commas(6163712)     "6,163,712"
//   short_count(6163712)     "6.2 M"       K, M, B, T are powers of 1000; below 1000 the number
//   fixed(3.14159, 2)        "3.14"        "nan", "inf" and "-inf" where there are no digits
//   fixed(3.14159, 2, 7)     "   3.14"     at least 7 characters wide
//   duration(3725)           "1:02:05"     "0:59" below an hour, "2d 03:04:05" from a day on
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

std::string with_commas(int64_t value);
std::string short_count(int64_t value);
std::string fixed(double value, int num_decimals, size_t width = 0);

// `seconds` rounded down; "-:--" for a number that is negative, NaN, or 1e9 (30 years) and more.
std::string duration(double seconds);

// `text` with blanks before (pad_left) or after (pad_right) it, to at least `width` bytes.
std::string pad_left(std::string_view text, size_t width);
std::string pad_right(std::string_view text, size_t width);

}  // namespace tessera
