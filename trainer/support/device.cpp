#include "trainer/support/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace tessera {
namespace {

// The value of the first line "key : value" of a text file of the kernel's.
std::string value_in_file(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

at::Device choose_device(int64_t local_rank) {
  if (!at::hasCUDA()) return at::kCPU;
  const auto num_devices = static_cast<int64_t>(at::detail::getCUDAHooks().deviceCount());
  TORCH_CHECK(local_rank < num_devices, "local rank ", local_rank,
              ": expected a CUDA device for each rank of this machine, which shows ", num_devices);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
}

std::string device_name(at::Device device) {
  if (device.is_cpu()) return value_in_file("/proc/cpuinfo", "model name");
  std::set<std::string> names;
  std::error_code no_such_folder;
  for (const auto& card :
       std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", no_such_folder)) {
    names.insert(value_in_file(card.path() / "information", "Model"));
  }
  return names.size() == 1 ? *names.begin() : "";
}

at::ScalarType scalar_type(const std::string& name) {
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  TORCH_INTERNAL_ASSERT(name == "float32", "validated configuration holds dtype ", name);
  return at::kFloat;
}

}  // namespace tessera
