// The parts of a World, with c10d's headers. Internal to parallel/comm.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <map>
#include <memory>
#include <vector>

#include "parallel/comm/heart.h"
#include "parallel/comm/world.h"

namespace tessera {

struct World::Impl {
  WorldOptions options;
  c10::intrusive_ptr<c10d::Store> store{};  // null for one rank, and where nothing is sent
  std::unique_ptr<Heart> heart{};           // where there is a store
  std::map<std::vector<int64_t>, c10::intrusive_ptr<c10d::Backend>> backends{};

  // Says that this rank leaves. One that serves the store stays until every other rank has left or
  // is lost, at most options.timeout: they may still ask who is lost.
  ~Impl();

  // A rank that meets the others at `store`. heart_store is a second connection to it.
  static World over(c10::intrusive_ptr<c10d::Store> store,
                    c10::intrusive_ptr<c10d::Store> heart_store, const WorldOptions& options);
  static World without_store(const WorldOptions& options);

  LifeWatch life_watch() const;
};

}  // namespace tessera
