// Internal to parallel/comm/: the members of a ProcessGroup, with c10d's headers.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "parallel/comm/process_group.h"

namespace tessera {

// The message of a backend's or store's exception, without the addresses of its call stack and
// without Gloo's general advice ("This is typically caused by ... GLHF!").
std::string backend_message(const std::exception& error);

struct ProcessGroup::Impl {
  std::string name;
  std::vector<int64_t> ranks;                   // global
  int64_t rank = 0;                             // in the group
  c10::intrusive_ptr<c10d::Backend> backend{};  // null for one rank and for planned groups
  CommCounters counters{};
};

}  // namespace tessera
