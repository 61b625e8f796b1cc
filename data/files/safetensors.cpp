#include "data/files/safetensors.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <system_error>

#include "data/files/safetensors_header.h"

namespace tessera {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace fs = std::filesystem;

std::string system_reason() { return std::generic_category().message(errno); }

// A read-only mapping of a whole file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    TORCH_CHECK(fd >= 0, "cannot open ", path, ": ", system_reason());
    struct stat info;
    const bool is_file = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    size_ = is_file ? static_cast<uint64_t>(info.st_size) : 0;
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const std::string why = data_ == MAP_FAILED ? system_reason() : "";
    ::close(fd);
    TORCH_CHECK(is_file, "cannot read ", path, ": not a regular file");
    TORCH_CHECK(data_ != MAP_FAILED, "cannot map ", path, ": ", why);
  }
  ~MappedFile() {
    if (data_ != nullptr && data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  uint64_t size_ = 0;
};

// Refuses other bytes than 0 and 1: reading them as bool is undefined behaviour.
void check_bools(std::string_view bytes, const std::string& path, const std::string& name) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int value = static_cast<unsigned char>(bytes[i]);
    TORCH_CHECK(value <= 1, path, ": tensor \"", name, "\": element ", i, " of a BOOL is ", value,
                ", expected 0 or 1");
  }
}

}  // namespace

struct SafetensorsFile::Impl {
  std::string path;
  MappedFile file;
  SafetensorsHeader header;
  std::vector<std::string> names;
  std::unordered_map<std::string, size_t> index_of;

  explicit Impl(const std::string& file_path)
      : path(file_path), file(file_path), header(parse_safetensors_header(file.bytes(), path)) {
    for (const SafetensorsEntry& entry : header.entries) {
      index_of.emplace(entry.name, names.size());
      names.push_back(entry.name);
    }
  }

  const SafetensorsEntry& entry(const std::string& name) const {
    const auto found = index_of.find(name);
    TORCH_CHECK(found != index_of.end(), path, ": no tensor \"", name, "\" among its ",
                names.size());
    return header.entries[found->second];
  }

  // A tensor of this shape from the entry's bytes at `begin` on.
  at::Tensor read(const SafetensorsEntry& entry, at::ScalarType type,
                  const std::vector<int64_t>& shape, uint64_t begin) const;
};

SafetensorsFile::SafetensorsFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

const std::string& SafetensorsFile::path() const { return impl_->path; }
const std::vector<std::string>& SafetensorsFile::names() const { return impl_->names; }
bool SafetensorsFile::contains(const std::string& name) const {
  return impl_->index_of.contains(name);
}
const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return impl_->header.metadata;
}
const std::vector<int64_t>& SafetensorsFile::sizes(const std::string& name) const {
  return impl_->entry(name).sizes;
}

at::ScalarType SafetensorsFile::dtype(const std::string& name) const {
  const SafetensorsDtype& dtype = *impl_->entry(name).dtype;
  TORCH_CHECK(dtype.type.has_value(), path(), ": tensor \"", name, "\": dtype ", dtype.name,
              " is valid, but no tensor type holds it");
  return *dtype.type;
}

at::Tensor SafetensorsFile::Impl::read(const SafetensorsEntry& entry, at::ScalarType type,
                                       const std::vector<int64_t>& shape, uint64_t begin) const {
  at::Tensor tensor = at::empty(shape, at::TensorOptions(type));
  TORCH_INTERNAL_ASSERT(entry.begin + begin + tensor.nbytes() <= entry.end);
  const std::string_view bytes =
      file.bytes().substr(header.data_start + entry.begin + begin, tensor.nbytes());
  if (type == at::kBool) check_bools(bytes, path, entry.name);
  // A copy of bytes: data in a file need not be aligned for its type.
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::string safetensors_dtype_name(at::ScalarType dtype) {
  const SafetensorsDtype* found = find_safetensors_dtype(dtype);
  TORCH_INTERNAL_ASSERT(found != nullptr, "no safetensors dtype for ", dtype);
  return found->name;
}

std::optional<at::ScalarType> safetensors_dtype(const std::string& name) {
  const SafetensorsDtype* found = find_safetensors_dtype(name);
  return found == nullptr ? std::nullopt : found->type;
}

at::Tensor SafetensorsFile::get(const std::string& name) const {
  const SafetensorsEntry& entry = impl_->entry(name);
  return impl_->read(entry, dtype(name), entry.sizes, 0);
}

at::Tensor SafetensorsFile::get(const std::string& name, const Rectangle& rectangle) const {
  const SafetensorsEntry& entry = impl_->entry(name);
  check_inside(path() + ": tensor \"" + name + "\"", entry.sizes, rectangle);
  if (entry.sizes.empty()) return get(name);
  Rectangle rows = Rectangle::whole(entry.sizes);
  rows.offset[0] = rectangle.offset[0];
  rows.shape[0] = rectangle.shape[0];
  const auto num_rows = static_cast<uint64_t>(entry.sizes[0]);
  const uint64_t row_bytes = num_rows == 0 ? 0 : (entry.end - entry.begin) / num_rows;
  const uint64_t begin = static_cast<uint64_t>(rectangle.offset[0]) * row_bytes;
  return view_of(impl_->read(entry, dtype(name), rows.shape, begin), rows, rectangle);
}

// ---------------------------------------------------------------------------------------- folders

namespace {

// Reads the "weight_map" of an index: tensor name -> shard.
std::map<std::string, std::string> read_weight_map(const std::string& index_path) {
  std::ifstream stream(index_path);
  TORCH_CHECK(stream, "cannot open ", index_path, ": ", system_reason());
  nlohmann::json index;
  try {
    index = nlohmann::json::parse(stream);
  } catch (const nlohmann::json::exception& error) {
    TORCH_CHECK(false, index_path, ": not valid JSON: ", error.what());
  }
  TORCH_CHECK(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
              index_path, ": no object \"weight_map\" (tensor name -> file)");
  std::map<std::string, std::string> weight_map;
  for (const auto& [name, file] : index["weight_map"].items()) {
    TORCH_CHECK(file.is_string(), index_path, ": weight_map[\"", name, "\"] is ", file.dump(),
                ", expected a file name");
    const std::string shard = file.get<std::string>();
    TORCH_CHECK(!shard.empty() && fs::path(shard).filename() == fs::path(shard), index_path,
                ": weight_map[\"", name, "\"] is \"", shard,
                "\", expected the name of a file in the same folder");
    weight_map.emplace(name, shard);
  }
  return weight_map;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const std::string& folder) : folder_(folder) {
  TORCH_CHECK(fs::is_directory(folder), "no folder ", folder);
  const std::string index_path = (fs::path(folder) / "model.safetensors.index.json").string();
  const std::string single_path = (fs::path(folder) / "model.safetensors").string();
  if (fs::exists(index_path)) {
    read_index(index_path);
    return;
  }
  TORCH_CHECK(fs::exists(single_path), "no weights in ", folder,
              ": neither model.safetensors.index.json nor model.safetensors is there");
  files_.emplace_back(single_path);
  for (const std::string& name : files_[0].names()) file_of_.emplace(name, 0);
}

void SafetensorsFolder::read_index(const std::string& index_path) {
  std::map<std::string, size_t> index_of_shard;
  for (const auto& [name, shard] : read_weight_map(index_path)) {
    const auto [found, is_new] = index_of_shard.emplace(shard, files_.size());
    if (is_new) files_.emplace_back((fs::path(folder_) / shard).string());
    const SafetensorsFile& file = files_[found->second];
    TORCH_CHECK(file.contains(name), index_path, ": weight_map[\"", name, "\"] is \"", shard,
                "\", but that file has no such tensor");
    file_of_.emplace(name, found->second);
  }
  for (size_t i = 0; i < files_.size(); ++i) {
    for (const std::string& name : files_[i].names()) {
      const auto found = file_of_.find(name);
      TORCH_CHECK(found != file_of_.end() && found->second == i, files_[i].path(), ": tensor \"",
                  name, "\" is not listed for this file in ", index_path);
    }
  }
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

bool SafetensorsFolder::contains(const std::string& name) const { return file_of_.contains(name); }

const SafetensorsFile& SafetensorsFolder::file_of(const std::string& name) const {
  const auto found = file_of_.find(name);
  TORCH_CHECK(found != file_of_.end(), folder_, ": no tensor \"", name, "\" among its ",
              file_of_.size());
  return files_[found->second];
}

// ---------------------------------------------------------------------------------------- writing

namespace {

struct TensorToWrite {
  const std::string* name;
  const at::Tensor* tensor;
  const SafetensorsDtype* dtype;  // as it will be in the file
  uint64_t num_bytes;
};

TensorToWrite plan_tensor(const std::string& path, const std::string& name,
                          const at::Tensor& tensor, const SafetensorsWriteOptions& options) {
  const std::string where = path + ": tensor \"" + name + "\"";
  TORCH_CHECK(name != kSafetensorsMetadataKey, where, ": this name is the format's own");
  TORCH_CHECK(tensor.defined(), where, " is undefined");
  TORCH_CHECK(tensor.layout() == at::kStrided && !tensor.is_meta(), where, " has layout ",
              tensor.layout(), " on device ", tensor.device(), ", expected strided with data");
  const bool cast = options.floating_dtype.has_value() && tensor.is_floating_point();
  const at::ScalarType type = cast ? *options.floating_dtype : tensor.scalar_type();
  const SafetensorsDtype* dtype = find_safetensors_dtype(type);
  TORCH_CHECK(dtype != nullptr, where, " has dtype ", type, ", which the format lacks");
  return {&name, &tensor, dtype, static_cast<uint64_t>(tensor.numel()) * dtype->num_bits / 8};
}

// The tensors in the reference writer's order: falling dtype (hence alignment), then name.
std::vector<TensorToWrite> plan_tensors(const std::string& path, const NamedTensors& tensors,
                                        const SafetensorsWriteOptions& options) {
  std::vector<TensorToWrite> plan;
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(names.insert(name).second, path, ": tensor \"", name, "\" is given twice");
    plan.push_back(plan_tensor(path, name, tensor, options));
  }
  std::sort(plan.begin(), plan.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : *a.name < *b.name;
  });
  return plan;
}

std::string make_header(const std::string& path, const std::vector<TensorToWrite>& plan,
                        const std::map<std::string, std::string>& metadata) {
  std::ostringstream header;
  const char* separator = "{";
  try {
    if (!metadata.empty()) {
      header << separator << '"' << kSafetensorsMetadataKey << "\":" << nlohmann::json(metadata);
      separator = ",";
    }
    uint64_t offset = 0;
    for (const TensorToWrite& item : plan) {
      header << separator << nlohmann::json(*item.name) << ":{\"dtype\":\"" << item.dtype->name
             << "\",\"shape\":" << nlohmann::json(item.tensor->sizes().vec())
             << ",\"data_offsets\":[" << offset << "," << offset + item.num_bytes << "]}";
      offset += item.num_bytes;
      separator = ",";
    }
  } catch (const nlohmann::json::exception& error) {
    TORCH_CHECK(false, path, ": a name or metadata is not UTF-8: ", error.what());
  }
  std::string text = plan.empty() && metadata.empty() ? "{}" : header.str() + "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  TORCH_CHECK(text.size() <= kSafetensorsMaxHeader, path, ": the header takes ", text.size(),
              " bytes, the format allows ", kSafetensorsMaxHeader);
  return text;
}

}  // namespace

FileDigest write_safetensors(const std::string& path, const NamedTensors& tensors,
                             const SafetensorsWriteOptions& options) {
  const std::vector<TensorToWrite> plan = plan_tensors(path, tensors, options);
  const std::string header = make_header(path, plan, options.metadata);
  DurableFile file(path);
  const uint64_t header_size = header.size();
  file.write(&header_size, sizeof(header_size));
  file.write(header.data(), header.size());
  for (const TensorToWrite& item : plan) {
    const at::Tensor bytes = item.tensor->detach()
                                 .to(at::kCPU, *item.dtype->type)
                                 .resolve_conj()
                                 .resolve_neg()
                                 .contiguous();
    TORCH_INTERNAL_ASSERT(bytes.nbytes() == item.num_bytes);
    file.write(bytes.const_data_ptr(), item.num_bytes);
  }
  return file.commit();
}

}  // namespace tessera
