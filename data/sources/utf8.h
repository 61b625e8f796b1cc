// UTF-8: where a text is ill-formed, and how it is repaired.
//
// Well-formed is table 3-7 of the Unicode Standard: no overlong forms, no surrogates, nothing above
// U+10FFFF. Each maximal subpart of an ill-formed sequence becomes one U+FFFD (Unicode,
// chapter 3.9, "U+FFFD Substitution of Maximal Subparts"; also the rule of the WHATWG Encoding
// Standard and of Python's errors="replace"):
//
//   "a\xE2\x82z"  ->  "a", U+FFFD, "z"      the sequence E2 82 breaks off
//   "\xC0\xAF"    ->  U+FFFD, U+FFFD        C0 starts nothing, and AF goes with nothing
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera {

// The offset of the first byte of the first ill-formed sequence; no value when the text is well
// formed.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// Repairs `text` in place; returns the number of U+FFFD that were put in (0: the text is
// untouched).
int64_t replace_invalid_utf8(std::string& text);

}  // namespace tessera
