#include "trainer/metrics/memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace tessera {
namespace {

constexpr double kBytesPerGib = 1024.0 * 1024.0 * 1024.0;

std::optional<double> installed_gib() {
  const long num_pages = sysconf(_SC_PHYS_PAGES);
  const long page_size = sysconf(_SC_PAGESIZE);
  if (num_pages <= 0 || page_size <= 0) return std::nullopt;
  return static_cast<double>(num_pages) * static_cast<double>(page_size) / kBytesPerGib;
}

std::optional<double> smaller(std::optional<double> a, std::optional<double> b) {
  if (a && b) return std::min(*a, *b);
  return a ? a : b;
}

MemoryUse cpu_memory_use() {
  MemoryUse use;
  // Not getrusage's ru_maxrss: that survives exec, so it can be the parent's peak.
  use.peak_gib = gib_from_status_file("/proc/self/status", "VmHWM");
  use.total_gib = smaller(installed_gib(), gib_from_limit_file("/sys/fs/cgroup/memory.max"));
  use.total_gib =
      smaller(use.total_gib, gib_from_limit_file("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  return use;
}

MemoryUse allocator_memory_use(c10::Device device) {
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  if (allocator == nullptr || !allocator->initialized()) return {};
  const c10::DeviceIndex index = device.has_index() ? device.index() : c10::DeviceIndex{0};
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto stats = allocator->getDeviceStats(index);
  MemoryUse use;
  use.peak_gib = static_cast<double>(stats.reserved_bytes[kAll].peak) / kBytesPerGib;
  try {
    use.total_gib = static_cast<double>(allocator->getMemoryInfo(index).second) / kBytesPerGib;
  } catch (const c10::NotImplementedError&) {
    use.total_gib = std::nullopt;  // an allocator need not know the size of its device
  }
  return use;
}

}  // namespace

MemoryUse memory_use(c10::Device device) {
  return device.is_cpu() ? cpu_memory_use() : allocator_memory_use(device);
}

std::optional<double> gib_from_status_file(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    double kib = 0;
    if (word == key + ":" && file >> kib) return kib * 1024 / kBytesPerGib;
  }
  return std::nullopt;
}

std::optional<double> gib_from_limit_file(const std::string& path) {
  std::ifstream file(path);
  double bytes = 0;
  if (!(file >> bytes)) return std::nullopt;
  return bytes / kBytesPerGib;
}

}  // namespace tessera
