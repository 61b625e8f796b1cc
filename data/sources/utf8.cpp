#include "data/sources/utf8.h"

#include <simdjson.h>

namespace tessera {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Sequence {
  size_t length;  // bytes of the character, or of the maximal ill-formed subpart
  bool valid;
};

// The bytes that a lead byte asks for: how many follow, and the range of the first of them (all
// later ones lie in 80..BF).
struct LeadByte {
  int num_following;
  unsigned char second_low = 0x80;
  unsigned char second_high = 0xBF;
};

LeadByte classify_lead(unsigned char lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {1};
  if (lead == 0xE0) return {2, 0xA0, 0xBF};
  if (lead == 0xED) return {2, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {2};
  if (lead == 0xF0) return {3, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {3};
  if (lead == 0xF4) return {3, 0x80, 0x8F};
  return {0};  // 80..C1, F5..FF start nothing
}

Sequence read_sequence(std::string_view text, size_t begin) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(begin) < 0x80) return {1, true};
  const LeadByte lead = classify_lead(byte(begin));
  unsigned char low = lead.second_low;
  unsigned char high = lead.second_high;
  size_t length = 1;
  for (int i = 0; i < lead.num_following; ++i) {
    const size_t next = begin + length;
    if (next >= text.size() || byte(next) < low || byte(next) > high) return {length, false};
    ++length;
    low = 0x80;
    high = 0xBF;
  }
  return {length, lead.num_following > 0};
}

// Start of the first ill-formed sequence at or after `begin`, which is the start of a sequence;
// text.size() if none.
size_t next_invalid(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Sequence sequence = read_sequence(text, begin);
    if (!sequence.valid) return begin;
    begin += sequence.length;
  }
  return begin;
}

bool is_valid(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  if (is_valid(text)) return std::nullopt;
  return next_invalid(text, 0);
}

int64_t replace_invalid_utf8(std::string& text) {
  if (is_valid(text)) return 0;
  std::string repaired;
  repaired.reserve(text.size() + text.size() / 8);
  int64_t num_replaced = 0;
  size_t begin = 0;
  while (true) {
    const size_t bad = next_invalid(text, begin);
    repaired.append(text, begin, bad - begin);
    if (bad == text.size()) break;
    repaired.append(kReplacement);
    ++num_replaced;
    begin = bad + read_sequence(text, bad).length;
  }
  text = std::move(repaired);
  return num_replaced;
}

}  // namespace tessera
