// Internal to parallel/comm: what a rank says of itself, and what others make of it. Plain values;
// heart.h has the thread that speaks.
//
// A rank that is slow, or waits for somebody, must not be taken for a dead one. So each process
// counts its heartbeats where all can read them, and an observer looks once for each of its own:
// a machine with little time for them slows the observer down as well.
//
//   LifeWatch watch({.rank = 0, .num_ranks = 4, .patience = 12});
//   while (!watch.is_settled()) watch.look(signs);            // at every heartbeat of our own
//   watch.others(Life::kLost)                                 // {3}
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct LifeSign {
  int64_t num_beats = 0;
  bool has_failed = false;  // it met a CommError
  bool has_left = false;    // it ended in order, whether or not it had failed

  bool operator==(const LifeSign&) const = default;
};

std::string to_text(const LifeSign& sign);
LifeSign life_sign_of(const std::string& text);  // what to_text wrote

enum class Life {
  kUnknown,  // not looked at for long enough
  kLives,    // beats, and has not failed
  kFailed,   // met a CommError as we did; lives, or has left since
  kLeft,     // ended in order, without one
  kLost,     // no beat for as many looks as we have patience
};

class LifeWatch {
 public:
  struct Options {
    int64_t rank = 0;  // who looks
    int64_t num_ranks = 1;
    int64_t patience = 1;  // looks
  };
  explicit LifeWatch(const Options& options);

  // By rank.
  void look(const std::vector<LifeSign>& signs);

  Life life(int64_t rank) const;
  std::vector<int64_t> others(Life life) const;
  bool is_settled() const { return others(Life::kUnknown).empty(); }

  // Whether every other rank has left or is lost.
  bool is_alone() const;

 private:
  struct Seen {
    LifeSign sign;
    int64_t changed_at = 0;  // the look that showed another number of beats than the one before
  };
  Options options_;
  std::vector<Seen> seen_;
  int64_t num_looks_ = 0;
};

}  // namespace tessera
