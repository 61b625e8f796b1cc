// The safetensors format (huggingface/safetensors): 8-byte little-endian header length, JSON
// header, raw data.
//
// Reading validates the whole header first, so that no byte outside the file is ever touched,
// whatever it holds. The reader is stricter than the reference reader in what the format's own
// rules forbid: a tensor, a field or a metadata key named twice, and fields other than dtype, shape
// and data_offsets.
//
//   SafetensorsFile file("model.safetensors");
//   for (const std::string& name : file.names()) weights[name] = file.get(name);
//
//   write_safetensors("out.safetensors", {{"weight", weight}}, {.metadata = {{"format", "pt"}}});
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/files/durable_file.h"
#include "data/files/rectangle.h"

namespace tessera {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The format's name of a dtype ("F32", "BF16", ...), and the dtype of a name; no value for a name
// that is unknown or that LibTorch has no tensors of. dtype: one that the format has.
std::string safetensors_dtype_name(at::ScalarType dtype);
std::optional<at::ScalarType> safetensors_dtype(const std::string& name);

// One file, memory-mapped. The constructor throws c10::Error with path and reason for a file that
// cannot be read and for anything malformed: truncated, overlapping or missing bytes, unknown
// dtype, bad JSON, duplicate names. A file must not be shortened while it is open.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;

  const std::string& path() const;
  const std::vector<std::string>& names() const;  // in the order of the header
  bool contains(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const;

  // sizes, dtype and get throw c10::Error for an unknown name; dtype and get also for F4 and F6_*,
  // which have no tensor type, and get for a BOOL that holds another byte than 0 and 1.
  const std::vector<int64_t>& sizes(const std::string& name) const;
  at::ScalarType dtype(const std::string& name) const;
  at::Tensor get(const std::string& name) const;  // a copy on the CPU

  // A rectangle of the tensor, on the CPU; only the rectangle's rows are read from the file, and
  // the result may be a strided view of them. Throws c10::Error also when the rectangle does not
  // lie inside the tensor.
  at::Tensor get(const std::string& name, const Rectangle& rectangle) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// All tensors of a Hugging Face folder by name: model.safetensors.index.json with its shards, else
// model.safetensors. The constructor throws c10::Error when there is neither, when a file cannot be
// read, and when the index and the shards do not name the same tensors.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::string& folder);

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const;

  // The file that holds the tensor; throws c10::Error for an unknown name.
  const SafetensorsFile& file_of(const std::string& name) const;
  at::Tensor get(const std::string& name) const { return file_of(name).get(name); }

 private:
  void read_index(const std::string& index_path);

  std::string folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> file_of_;
};

struct SafetensorsWriteOptions {
  std::map<std::string, std::string> metadata = {};   // Hugging Face expects {"format", "pt"}
  std::optional<at::ScalarType> floating_dtype = {};  // cast floating-point tensors to this
};

// Writes to `path`.tmp, flushes it to disk and renames it: a crash leaves the old file or the new
// one, never half. The file equals what the reference writer makes, byte for byte (tensors by
// falling dtype, then name). Tensors may be on any device and strided; beyond them at most one
// contiguous CPU copy of one tensor is held. Throws c10::Error with the path and the tensor
// (undefined, named twice, of a dtype or layout that the format lacks) or the system's error (disk
// full, ...).
FileDigest write_safetensors(const std::string& path, const NamedTensors& tensors,
                             const SafetensorsWriteOptions& options = {});

}  // namespace tessera
