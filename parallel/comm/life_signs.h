// Life signs: what a rank says of itself, and what the others conclude from it. All of it is plain
// values; heart.h has the thread that speaks.
//
// A rank that is slow, or waits for somebody, must not be taken for a dead one. So each process
// counts its heartbeats where all can read them, and an observer looks once for each of its own:
// a machine with little time for them slows the observer down as well.
//
//   LifeWatch watch({.rank = 0, .num_ranks = 4, .patience = 12});
//   while (!watch.is_settled()) watch.look(signs);            // at every heartbeat of our own
//   watch.others(Life::kLost)                                 // {3}
//
// Internal to parallel/comm.
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
LifeSign life_sign_of(const std::string& text);  // reads what to_text wrote

enum class Life {
  kUnknown,  // it was not watched for long enough
  kLives,    // it beats, and has not failed
  kFailed,   // it met a CommError as we did, and lives or has left since
  kLeft,     // it ended in order, without a CommError
  kLost,     // it did not beat during as many looks as we have patience
};

class LifeWatch {
 public:
  struct Options {
    int64_t rank = 0;  // the observer
    int64_t num_ranks = 1;
    int64_t patience = 1;  // in looks
  };
  explicit LifeWatch(const Options& options);

  // Takes one look; `signs` has an entry for each rank.
  void look(const std::vector<LifeSign>& signs);

  Life life(int64_t rank) const;
  std::vector<int64_t> others(Life life) const;
  bool is_settled() const { return others(Life::kUnknown).empty(); }

  // Whether every other rank has left or is lost.
  bool is_alone() const;

 private:
  // Whether the rank did not beat during as many looks as we have patience.
  bool is_silent(int64_t rank) const;

  struct Seen {
    LifeSign sign;
    int64_t changed_at = 0;  // the last look at which the number of beats had changed
  };
  Options options_;
  std::vector<Seen> seen_;
  int64_t num_looks_ = 0;
};

}  // namespace tessera
