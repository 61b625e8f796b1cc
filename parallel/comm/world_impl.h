// Internal to parallel/comm: a World's parts, with c10d's headers.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <map>
#include <memory>
#include <vector>

#include "parallel/comm/world.h"

namespace tessera {

struct World::Impl {
  WorldOptions options;
  c10::intrusive_ptr<c10d::Store> store{};  // null for one rank, and where nothing is sent
  std::map<std::vector<int64_t>, c10::intrusive_ptr<c10d::Backend>> backends{};

  // A rank that meets the others at `store`; for tests that look into it.
  static World over(c10::intrusive_ptr<c10d::Store> store, const WorldOptions& options);
};

}  // namespace tessera
