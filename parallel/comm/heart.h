// Internal to parallel/comm: the life signs of this rank, in the store.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "parallel/comm/life_signs.h"

namespace tessera {

// Beats from the constructor on, by a thread of its own: also while the rank computes or waits.
class Heart {
 public:
  // store: a connection that nobody else waits on. Throws what the store throws.
  Heart(c10::intrusive_ptr<c10d::Store> store, int64_t rank, std::chrono::milliseconds interval);
  ~Heart();  // beats no more
  Heart(const Heart&) = delete;
  Heart& operator=(const Heart&) = delete;

  void say_failed();  // at once, like this:
  void say_left();

  // Returns after the next beat; false when there will be none, as the store is gone.
  bool wait_for_beat();

  static std::string key(int64_t rank) { return "life/" + std::to_string(rank); }

 private:
  void run();
  void write();

  c10::intrusive_ptr<c10d::Store> store_;
  std::string key_;
  std::chrono::milliseconds interval_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  LifeSign sign_;
  bool is_stopping_ = false;
  bool has_store_ = true;
  std::thread thread_;
};

// What the ranks said last, by rank. Those of `ranks` have spoken; others count as having left.
std::vector<LifeSign> read_life_signs(c10d::Store& store, int64_t num_ranks,
                                      const std::vector<int64_t>& ranks);

}  // namespace tessera
