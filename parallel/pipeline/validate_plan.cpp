#include <c10/util/Exception.h>

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "parallel/pipeline/communication.h"
#include "parallel/pipeline/schedules/dataflow.h"

namespace tessera::pipeline {
namespace {

// The value that a send or receive carries.
Value carried_by(const Action& transfer) {
  const bool is_forward =
      transfer.kind == ActionKind::kSendForward || transfer.kind == ActionKind::kReceiveForward;
  if (is_send(transfer.kind)) {
    return {is_forward ? Value::Kind::kActivation : Value::Kind::kGradient, transfer.stage,
            transfer.microbatch};
  }
  return {is_forward ? Value::Kind::kActivation : Value::Kind::kGradient,
          transfer.stage + (is_forward ? -1 : 1), transfer.microbatch};
}

class PlanReplay {
 public:
  PlanReplay(const ExecutionPlan& plan, Transport transport)
      : plan_(plan),
        transport_(transport),
        positions_(plan.ranks.size()),
        present_(plan.ranks.size()) {}

  void run() {
    for (bool goes_on = true; goes_on;) {
      goes_on = false;
      for (int64_t rank = 0; rank < num_ranks(); ++rank) {
        while (!is_done(rank) && advance(rank)) goes_on = true;
      }
    }
    for (int64_t rank = 0; rank < num_ranks(); ++rank) {
      if (!is_done(rank)) fail(rank, "waits for ever");
    }
    for (const auto& [ends, messages] : sent_) {
      TORCH_CHECK(messages.empty(), "execution plan: rank ", ends.second, " never receives what ",
                  to_string(messages.front()), " of rank ", ends.first, " sends");
    }
  }

 private:
  int64_t num_ranks() const { return static_cast<int64_t>(positions_.size()); }
  bool is_done(int64_t rank) const { return positions_[rank] == plan_.ranks[rank].size(); }
  const Action& current(int64_t rank) const { return plan_.ranks[rank][positions_[rank]]; }

  [[noreturn]] void fail(int64_t rank, const std::string& reason) const {
    TORCH_CHECK(false, "execution plan: rank ", rank, ", position ", positions_[rank], " (",
                to_string(current(rank)), "): ", reason);
  }

  // Does the rank's next action unless it has to wait.
  bool advance(int64_t rank) {
    const Action& action = current(rank);
    if (is_send(action.kind)) return send(rank, action);
    if (is_receive(action.kind)) return transport_ == Transport::kBuffered && receive(rank, action);
    for (const Value& value : needs(action, plan_.placement.num_stages())) {
      if (present_[rank].count(value) == 0) fail(rank, "comes before what it needs");
    }
    if (const std::optional<Value> value = gives(action)) present_[rank].insert(*value);
    ++positions_[rank];
    return true;
  }

  bool send(int64_t rank, const Action& action) {
    if (present_[rank].count(carried_by(action)) == 0) fail(rank, "sends what is not there");
    const int64_t peer = peer_rank(action, plan_.placement);
    if (transport_ == Transport::kBuffered) {
      sent_[{rank, peer}].push_back(action);
    } else {
      const bool peer_receives = !is_done(peer) && is_receive(current(peer).kind) &&
                                 peer_rank(current(peer), plan_.placement) == rank;
      if (!peer_receives) return false;
      take(peer, action);
    }
    ++positions_[rank];
    return true;
  }

  bool receive(int64_t rank, const Action& action) {
    std::deque<Action>& messages = sent_[{peer_rank(action, plan_.placement), rank}];
    if (messages.empty()) return false;
    take(rank, messages.front());
    messages.pop_front();
    return true;
  }

  // The rank's next action receives what `sent` sends.
  void take(int64_t rank, const Action& sent) {
    if (carried_by(current(rank)) != carried_by(sent)) {
      fail(rank, "meets " + to_string(sent) + ", which carries something else");
    }
    present_[rank].insert(carried_by(sent));
    ++positions_[rank];
  }

  const ExecutionPlan& plan_;
  Transport transport_;
  std::vector<size_t> positions_;
  std::vector<std::set<Value>> present_;                            // by rank
  std::map<std::pair<int64_t, int64_t>, std::deque<Action>> sent_;  // by sender and receiver
};

}  // namespace

void validate_plan(const ExecutionPlan& plan, Transport transport) {
  PlanReplay(plan, transport).run();
}

}  // namespace tessera::pipeline
