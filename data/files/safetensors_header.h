// Internal to data/files/: the header of a safetensors file, parsed and checked against the file's
// size.
//
//   const SafetensorsHeader header = parse_safetensors_header(file_bytes, path);
//   const SafetensorsEntry& first = header.entries.front();
//   file_bytes.substr(header.data_start + first.begin, first.end - first.begin);   // its data
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

inline constexpr const char* kSafetensorsMetadataKey = "__metadata__";
inline constexpr uint64_t kSafetensorsMaxHeader = 100'000'000;  // the reference reader's limit

struct SafetensorsDtype {
  const char* name;
  uint64_t num_bits;
  std::optional<c10::ScalarType> type;  // none: valid in a file, but LibTorch has no such tensor
};

// The entry of a dtype, or nullptr when it is unknown. All pointers lead into one array in the
// order of the reference's enum, by which its writer sorts.
const SafetensorsDtype* find_safetensors_dtype(std::string_view name);
const SafetensorsDtype* find_safetensors_dtype(c10::ScalarType type);

struct SafetensorsEntry {
  std::string name;
  const SafetensorsDtype* dtype = nullptr;
  std::vector<int64_t> sizes;
  uint64_t begin = 0;  // bytes from the start of the data
  uint64_t end = 0;
};

// Guarantees of a parsed header: the entries' bytes follow each other without holes up to the end
// of the file, each as long as its sizes and dtype say; sizes and strides fit int64.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the file
  std::map<std::string, std::string> metadata;
  uint64_t data_start = 0;  // bytes from the start of the file
};

// `file` is the content of the whole file, `path` is for messages only. Throws c10::Error with the
// path, the tensor and what is wrong.
SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& path);

}  // namespace tessera
