// Reads golden files: cases from JSON, tensors from safetensors (8 bytes of header length, JSON
// header, data). The reader is written here, so that tests of low-level folders need no library for
// it.
//
//   const GoldenTensors tensors(golden("attention/attention.safetensors"));
//   const at::Tensor tensor = tensors.get(name);
//
// Throws c10::Error for a file that cannot be read and a tensor that is not there.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace tessera::testing {

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  TORCH_CHECK(file, "cannot read golden file ", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(read_bytes(path));
}

class GoldenTensors {
 public:
  explicit GoldenTensors(const std::filesystem::path& path) : bytes_(read_bytes(path)) {
    uint64_t header_size = 0;
    std::memcpy(&header_size, bytes_.data(), sizeof header_size);
    header_ = nlohmann::json::parse(bytes_.substr(sizeof header_size, header_size));
    data_ = sizeof header_size + header_size;
  }

  bool has(const std::string& name) const { return header_.contains(name); }

  // A copy of the tensor, on the CPU.
  at::Tensor get(const std::string& name) const {
    TORCH_CHECK(has(name), "golden file has no tensor ", name);
    const nlohmann::json& entry = header_[name];
    const at::Tensor tensor =
        at::empty(entry["shape"].get<std::vector<int64_t>>(), dtype(entry["dtype"]));
    const size_t begin = entry["data_offsets"][0];
    const size_t end = entry["data_offsets"][1];
    TORCH_CHECK(tensor.nbytes() == end - begin, "golden file: wrong size of ", name);
    std::memcpy(tensor.mutable_data_ptr(), bytes_.data() + data_ + begin, end - begin);
    return tensor;
  }

  // Packed bits (element i is bit i & 7 of byte i >> 3) as a bool tensor of this shape.
  at::Tensor bits(const std::string& name, const std::vector<int64_t>& shape) const {
    const at::Tensor packed = get(name);
    const at::Tensor unpacked = at::empty(shape, at::kBool);
    const uint8_t* bytes = packed.const_data_ptr<uint8_t>();
    bool* out = unpacked.mutable_data_ptr<bool>();
    TORCH_CHECK(packed.numel() == (unpacked.numel() + 7) / 8, "golden file: wrong size of ", name);
    for (int64_t i = 0; i < unpacked.numel(); ++i) out[i] = (bytes[i >> 3] >> (i & 7) & 1) != 0;
    return unpacked;
  }

 private:
  static at::ScalarType dtype(const std::string& name) {
    static const std::map<std::string, at::ScalarType> kTypes = {
        {"F64", at::kDouble}, {"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"F16", at::kHalf},
        {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort},     {"U8", at::kByte}};
    return kTypes.at(name);
  }

  std::string bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

}  // namespace tessera::testing
