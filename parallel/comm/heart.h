// The heart of a rank: a thread that writes the rank's life signs (life_signs.h) to the store.
//
//   Heart heart(store, rank, grace / patience);
//   heart.say_failed();   // after a CommError
//
// Internal to parallel/comm.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "parallel/comm/life_signs.h"

namespace tessera {

// Beats from the constructor on. The thread is the heart's own, so it also beats while the rank
// computes or waits.
class Heart {
 public:
  // `store` is a connection that nobody else waits on, `interval` the time between two beats.
  // Throws what the store throws.
  Heart(c10::intrusive_ptr<c10d::Store> store, int64_t rank, std::chrono::milliseconds interval);
  ~Heart();  // stops the beats
  Heart(const Heart&) = delete;
  Heart& operator=(const Heart&) = delete;

  // These write at once, without waiting for the next beat. They do not throw.
  void say_failed();
  void say_left();

  // Waits for the next beat. Returns false when there will be none, because the store is gone.
  bool wait_for_beat();

  static std::string key(int64_t rank) { return "life/" + std::to_string(rank); }

 private:
  void run();
  void write();

  c10::intrusive_ptr<c10d::Store> store_;
  std::string key_;
  std::chrono::milliseconds interval_;
  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  LifeSign sign_;
  bool is_stopping_ = false;
  bool has_store_ = true;
  std::thread thread_;
};

// What the ranks said last, one entry for each of num_ranks. `ranks` are those that have spoken;
// the others count as having left. Throws what the store throws.
std::vector<LifeSign> read_life_signs(c10d::Store& store, int64_t num_ranks,
                                      const std::vector<int64_t>& ranks);

}  // namespace tessera
