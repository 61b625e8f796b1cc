// Ranks as threads of the test's process, over Gloo.
//
//   run_ranks(4, [](const World& world) { ... expectations ... });
#pragma once

#include <ATen/Parallel.h>

#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/comm/world.h"

namespace tessera::testing {

// Calls body once per rank, each on a thread of its own with one compute thread, and returns when
// all have returned. Rethrows the exception of the rank that failed first. A rank that fails drops
// its connections, so that the others fail at once instead of waiting.
inline void run_ranks(int64_t size, const std::function<void(const World&)>& body) {
  std::vector<World> worlds = World::in_one_process(size);
  std::exception_ptr first_failure;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      at::get_num_threads();  // before set: the first call of a thread re-reads the default
      at::set_num_threads(1);
      World world = std::exchange(worlds[static_cast<size_t>(rank)], World());
      try {
        body(world);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!first_failure) first_failure = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first_failure) std::rethrow_exception(first_failure);
}

}  // namespace tessera::testing
