#include "data/files/safetensors_header.h"

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unordered_set>

namespace tessera {
namespace {

constexpr std::array kDtypes = {
    SafetensorsDtype{"BOOL", 8, at::kBool},
    SafetensorsDtype{"F4", 4, std::nullopt},
    SafetensorsDtype{"F6_E2M3", 6, std::nullopt},
    SafetensorsDtype{"F6_E3M2", 6, std::nullopt},
    SafetensorsDtype{"U8", 8, at::kByte},
    SafetensorsDtype{"I8", 8, at::kChar},
    SafetensorsDtype{"F8_E5M2", 8, at::kFloat8_e5m2},
    SafetensorsDtype{"F8_E4M3", 8, at::kFloat8_e4m3fn},
    SafetensorsDtype{"F8_E8M0", 8, at::kFloat8_e8m0fnu},
    SafetensorsDtype{"F8_E4M3FNUZ", 8, at::kFloat8_e4m3fnuz},
    SafetensorsDtype{"F8_E5M2FNUZ", 8, at::kFloat8_e5m2fnuz},
    SafetensorsDtype{"I16", 16, at::kShort},
    SafetensorsDtype{"U16", 16, at::kUInt16},
    SafetensorsDtype{"F16", 16, at::kHalf},
    SafetensorsDtype{"BF16", 16, at::kBFloat16},
    SafetensorsDtype{"I32", 32, at::kInt},
    SafetensorsDtype{"U32", 32, at::kUInt32},
    SafetensorsDtype{"F32", 32, at::kFloat},
    SafetensorsDtype{"C64", 64, at::kComplexFloat},
    SafetensorsDtype{"F64", 64, at::kDouble},
    SafetensorsDtype{"I64", 64, at::kLong},
    SafetensorsDtype{"U64", 64, at::kUInt64},
};

std::string dtype_names() {
  std::string names;
  for (const SafetensorsDtype& dtype : kDtypes) names += std::string(" ") + dtype.name;
  return names;
}

// Quotes a name from the file, shortened: a long one must not fill the screen.
std::string in_quotes(const std::string& name) {
  constexpr size_t kShown = 200;
  return name.size() <= kShown ? '"' + name + '"' : '"' + name.substr(0, kShown) + "...\"";
}

// The bytes of a tensor; no value when a product does not fit or ends within a byte. Empty
// dimensions count as 1 on the way, because LibTorch computes strides with them.
std::optional<uint64_t> num_bytes_of(const SafetensorsEntry& entry) {
  int64_t span = 1;
  bool is_empty = false;
  for (const int64_t size : entry.sizes) {
    is_empty = is_empty || size == 0;
    if (__builtin_mul_overflow(span, std::max<int64_t>(size, 1), &span)) return std::nullopt;
  }
  uint64_t num_bits = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(span), entry.dtype->num_bits, &num_bits)) {
    return std::nullopt;
  }
  if (is_empty) return 0;
  return num_bits % 8 == 0 ? std::optional(num_bits / 8) : std::nullopt;
}

// Events of the JSON text in, entries out. A DOM would silently keep one of two equal keys, and
// would be built in full before the first error is seen; here any value out of place stops the
// parser.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool null() override { return misplaced("null"); }
  bool boolean(bool) override { return misplaced("a boolean"); }
  bool number_integer(int64_t value) override {
    return misplaced("the number " + std::to_string(value));
  }
  bool number_float(double, const string_t& text) override {
    return misplaced("the number " + text);
  }
  bool binary(binary_t&) override { return misplaced("binary data"); }

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::kShape) {
      if (value > INT64_MAX) return misplaced("the size " + std::to_string(value));
      entry_.sizes.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::kOffsets && num_offsets_ < 2) {
      (num_offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      return misplaced("the number " + std::to_string(value));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(field_, value);
    } else if (place_ == Place::kEntry && field_ == "dtype") {
      entry_.dtype = find_safetensors_dtype(std::string_view(value));
      TORCH_CHECK(entry_.dtype != nullptr, where(), "got dtype ", in_quotes(value),
                  ", expected one of", dtype_names());
    } else {
      return misplaced("the string " + in_quotes(value));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kFile) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && entry_.name == kSafetensorsMetadataKey) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kEntry;
    } else {
      return misplaced("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    if (place_ == Place::kTop) {
      entry_ = SafetensorsEntry{.name = key, .dtype = nullptr, .sizes = {}};
      fields_.clear();
      field_.clear();
      num_offsets_ = 0;
      TORCH_CHECK(names_.insert(key).second, path_, ": tensor ", in_quotes(key), " is there twice");
      return true;
    }
    field_ = key;
    if (place_ == Place::kMetadata) {
      TORCH_CHECK(!header_.metadata.contains(key), where(), "the key is there twice");
      return true;
    }
    TORCH_CHECK(key == "dtype" || key == "shape" || key == "data_offsets", where(),
                "got an unknown field, expected dtype, shape and data_offsets");
    TORCH_CHECK(fields_.insert(key).second, where(), "the field is there twice");
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        TORCH_CHECK(fields_.contains(field), path_, ": tensor ", in_quotes(entry_.name),
                    " has no field ", field);
      }
      header_.entries.push_back(std::move(entry_));
    }
    place_ = Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kEntry || field_ == "dtype") return misplaced("an array");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    TORCH_CHECK(place_ == Place::kShape || num_offsets_ == 2, where(), "got ", num_offsets_,
                " numbers, expected 2");
    place_ = Place::kEntry;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    C10_THROW_ERROR(Error, c10::str(path_, ": the header is not valid JSON: ", error.what()));
  }

 private:
  enum class Place { kFile, kTop, kMetadata, kEntry, kShape, kOffsets };

  std::string where() const {
    std::string text = path_ + ": ";
    if (!entry_.name.empty()) text += "tensor " + in_quotes(entry_.name) + ": ";
    if (!field_.empty()) text += in_quotes(field_) + ": ";
    return text;
  }

  bool misplaced(const std::string& value) const {
    const std::string_view expected = expected_here();
    C10_THROW_ERROR(Error, c10::str(where(), "got ", value, ", expected ", expected));
  }

  std::string_view expected_here() const {
    if (place_ == Place::kFile) return "an object of tensors";
    if (place_ == Place::kMetadata) return "a string";
    if (place_ == Place::kShape) return "sizes from 0 to 2^63 - 1";
    if (place_ == Place::kOffsets) return "two unsigned integers [begin, end]";
    if (place_ == Place::kTop) return "an object";
    return field_ == "dtype" ? "a string" : "an array of unsigned integers";
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::kFile;
  SafetensorsEntry entry_;
  std::string field_;
  int num_offsets_ = 0;
  std::unordered_set<std::string> names_;   // of tensors, and the metadata's
  std::unordered_set<std::string> fields_;  // of the entry being read
};

void check_num_bytes(const SafetensorsEntry& entry, const std::string& path) {
  const std::string where = path + ": tensor " + in_quotes(entry.name);
  TORCH_CHECK(entry.begin <= entry.end, where, ": got data_offsets [", entry.begin, ", ", entry.end,
              "], expected begin <= end");
  const std::optional<uint64_t> expected = num_bytes_of(entry);
  TORCH_CHECK(expected.has_value(), where, ": shape ", c10::IntArrayRef(entry.sizes), " of ",
              entry.dtype->name, " is too large or does not fill whole bytes");
  TORCH_CHECK(entry.end - entry.begin == *expected, where, ": data_offsets [", entry.begin, ", ",
              entry.end, "] hold ", entry.end - entry.begin, " bytes, but shape ",
              c10::IntArrayRef(entry.sizes), " of ", entry.dtype->name, " takes ", *expected);
}

// Checks that the tensors, in the order of their offsets, cover the data exactly.
void check_layout(const SafetensorsHeader& header, uint64_t num_data_bytes,
                  const std::string& path) {
  std::vector<const SafetensorsEntry*> by_offset;
  for (const SafetensorsEntry& entry : header.entries) {
    check_num_bytes(entry, path);
    by_offset.push_back(&entry);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t covered = 0;
  for (const SafetensorsEntry* entry : by_offset) {
    TORCH_CHECK(entry->begin == covered, path, ": tensor ", in_quotes(entry->name),
                " starts at byte ", entry->begin, " of the data, expected ", covered,
                entry->begin < covered ? " (tensors overlap)" : " (a hole)");
    covered = entry->end;
  }
  TORCH_CHECK(covered == num_data_bytes, path, ": the header describes ", covered,
              " bytes of data, the file has ", num_data_bytes,
              covered > num_data_bytes ? " (truncated)" : " (bytes left over)");
}

}  // namespace

const SafetensorsDtype* find_safetensors_dtype(std::string_view name) {
  const auto found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.name == name; });
  return found == kDtypes.end() ? nullptr : &*found;
}

const SafetensorsDtype* find_safetensors_dtype(c10::ScalarType type) {
  const auto found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.type == type; });
  return found == kDtypes.end() ? nullptr : &*found;
}

SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& path) {
  uint64_t length = 0;
  TORCH_CHECK(file.size() >= sizeof(length), path, ": the file has ", file.size(),
              " bytes, a safetensors file has at least 10");
  std::memcpy(&length, file.data(), sizeof(length));
  TORCH_CHECK(length <= kSafetensorsMaxHeader, path, ": header length is ", length, ", at most ",
              kSafetensorsMaxHeader, " expected (not a safetensors file?)");
  const uint64_t num_left = file.size() - sizeof(length);
  TORCH_CHECK(length <= num_left, path, ": header length is ", length, ", but only ", num_left,
              " bytes follow (truncated)");
  const std::string_view text = file.substr(sizeof(length), length);
  TORCH_CHECK(text.starts_with('{'), path, ": the header does not start with {");
  // The parser would take a NUL for the end of the text.
  TORCH_CHECK(text.find('\0') == text.npos, path, ": the header is not valid JSON: a NUL byte at ",
              text.find('\0'));

  SafetensorsHeader header;
  header.data_start = sizeof(length) + length;
  HeaderReader reader(path, header);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  check_layout(header, num_left - length, path);
  return header;
}

}  // namespace tessera
