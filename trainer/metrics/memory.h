// How much memory the run has used at most, and how much there is.
//
//   const MemoryUse use = memory_use(device);
//   if (use.peak_gib) log.info(fixed(*use.peak_gib, 2) + " GiB");
#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

namespace tessera {

// Both figures are in GiB (2^30 bytes); a figure that cannot be known is empty.
struct MemoryUse {
  std::optional<double> peak_gib = {};
  std::optional<double> total_gib = {};
};

// CPU: the peak resident set of this process since it started (VmHWM of /proc/self/status), and the
// machine's memory or the control group's limit, whichever is less. Other devices: the peak that
// LibTorch's caching allocator has reserved there (TorchTitan's figure) and the card's memory;
// nothing before the allocator is initialised or where the device type has no such allocator.
MemoryUse memory_use(c10::Device device);

// The two sources of the CPU figures, for tests: the value of `key` (which the file has in KiB) in
// a /proc status file, and a limit (which the file has in bytes, or "max" for none) from a
// control-group file. Both in GiB; nothing where the file or the value is missing.
std::optional<double> gib_from_status_file(const std::string& path, const std::string& key);
std::optional<double> gib_from_limit_file(const std::string& path);

}  // namespace tessera
