// How ranks meet over a store, at the start and in each group. Internal to parallel/comm.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/backends.h"
#include "parallel/comm/world.h"

namespace tessera {

// The address of the store for messages, such as "10.0.0.1:29500".
std::string where(const WorldOptions& options);

// A roll call of `size` ranks: rank `rank` answers under `topic`, and hears who else has.
struct RollCall {
  std::string topic;
  int64_t rank = 0;
  int64_t size = 1;

  std::string key(int64_t of_rank) const { return topic + "/" + std::to_string(of_rank); }
  void answer(c10d::Store& store, const std::string& text) const;

  // The ranks that have not answered when `timeout` has passed.
  std::vector<int64_t> wait(c10d::Store& store, std::chrono::milliseconds timeout) const;
};

// A connection to the store of a run, which this rank serves where nobody else does. Throws
// CommError when the port is in use or nobody answers.
c10::intrusive_ptr<c10d::Store> open_store(const WorldOptions& options);

// One more connection to a store that this rank has opened: an operation that waits keeps its own.
c10::intrusive_ptr<c10d::Store> reopen_store(WorldOptions options);

// Returns when all ranks have joined. Throws CommError naming those that have not in time.
void join(c10d::Store& store, const WorldOptions& options);

using MakeBackend = std::function<c10::intrusive_ptr<c10d::Backend>(const BackendRequest&)>;

// The backend of a group, once every rank of it is connected to every other: a rank that left
// earlier would be a lost peer for those that still connect. Throws CommError when this rank cannot
// connect, and when another cannot or does not in time, naming it. Whatever else `make` throws is
// passed on after the others have been told.
c10::intrusive_ptr<c10d::Backend> connect_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                const WorldOptions& options,
                                                const std::string& name,
                                                const std::vector<int64_t>& ranks,
                                                const MakeBackend& make);

}  // namespace tessera
