// Internal to parallel/fsdp/: UseOrder tells which unit to gather next, learned from the pass
// before.
//
// A pass is a run of uses in one direction. Units are used in the same order in every pass, but one
// of them may occur twice (a tied embedding is also the head), so what comes next depends on the
// last two uses. The first pass knows nothing; a change of direction starts a new pass, and nothing
// is known beyond a pass's end.
//
//   UseOrder order;
//   for (const int64_t next : order.use(Pass::kForward, unit, 1)) prefetch(next);
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

namespace tessera {

enum class Pass { kForward, kBackward };

// The number of units to gather ahead: with the unit in use and, in backward, its gradients there
// are never more than three.
constexpr int64_t units_ahead(Pass pass) { return pass == Pass::kForward ? 2 : 1; }

class UseOrder {
 public:
  // Notes that `unit` is in use and returns the units that followed it last time, the next one
  // first, at most `num_ahead`.
  std::vector<int64_t> use(Pass pass, int64_t unit, int64_t num_ahead);

  // The next use starts a pass, also in the same direction.
  void end_pass() { last_.reset(); }

 private:
  using Place = std::tuple<Pass, int64_t, int64_t>;  // direction, unit before (-1: none), unit
  std::optional<Place> last_;
  std::map<Place, int64_t> successors_;
};

}  // namespace tessera
