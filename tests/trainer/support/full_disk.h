// A disk that fills up: while a FullDisk lives, files of this process cannot grow beyond
// `num_bytes` (EFBIG after a short write, as ENOSPC comes on a full disk; root has no quota to run
// into).
//
//   const FullDisk disk(/*num_bytes=*/1000);
//   EXPECT_ERROR(write_file_atomically(path, std::string(2000, 'x')), path);
#pragma once

#include <sys/resource.h>

#include <csignal>

namespace tessera::testing {

class FullDisk {
 public:
  explicit FullDisk(rlim_t num_bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);  // by default the limit kills
    getrlimit(RLIMIT_FSIZE, &old_limit_);
    const rlimit limit{num_bytes, old_limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit old_limit_{};
  void (*old_handler_)(int) = nullptr;
};

}  // namespace tessera::testing
